"""The page of ``sluice top``: what it shows of a status."""

from __future__ import annotations

import copy

import pytest
from rich.console import Console

from sluice.pipeline.cli.top import render
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine


@pytest.fixture
def status(words_schema):
    graph = build_graph(load_graph("hgcal"), words_schema, ("event_id",))
    account = RunAccounting(graph, 7, Quarantine(None, graph.inputs))
    account.add_meters(MeterBlock(*graph.meter_names()))
    return {"state": "RUNNING", "cause": None, "run": 7, "holds": {}, "stopping": False,
            "report": account.snapshot().report()}  # fmt: skip


def shown(now, before, seconds):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(now, before, seconds))
    return console.export_text()


def test_rates_are_differences(status):
    before = copy.deepcopy(status)
    status["report"]["events"] |= {"offered": 5000, "accepted": 1000, "shed": 30}
    text = shown(status, before, 2.0)
    assert "RUNNING  run 7 · graph hgcal" in text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}
    assert lines["offered"] == ["5,000", "2,500"]
    assert lines["accepted"] == ["1,000", "500"]
    assert lines["shed"] == ["30", "15"]
    assert "lost" not in lines
    assert lines["tag"][-1] == "wafer-tagger@1"


def test_a_new_run_begins_with_no_rates(status):
    before = copy.deepcopy(status) | {"run": 6}
    status["report"]["events"]["offered"] = 5000
    text = shown(status, before, 1.0)
    assert ["offered", "5,000", "0"] in [line.split() for line in text.splitlines()]


def test_what_is_wrong_is_said(status):
    status |= {"state": "PAUSED", "holds": {"disk full": "no space on /data"}}
    status["report"]["restarts"] = {"compute-0": 2}
    status["report"]["swaps"] = [{"stage": "tag", "to": {"name": "t", "version": "2"}, "seq": 9}]
    accepted = {"both": 1, "gained": 2, "lost": 3}
    status["report"]["shadows"] = {
        "tag/t@3": {"accepted": accepted, "seen": 10, "off": "ArithmeticError: sprung"}
    }
    text = shown(status, status, 0.0)
    for words in ("PAUSED  disk full: no space on /data", "compute-0: restarted 2 times",
                  "tag: t@2 since batch 9", "shadow tag/t@3: gains 2, loses 3 of 10 events, off: "
                  "ArithmeticError: sprung"):  # fmt: skip
        assert words in text


def test_before_the_first_run(status):
    status |= {"state": "CONFIGURED", "run": None, "report": None}
    assert "no run yet" in shown(status, status, 0.0)
