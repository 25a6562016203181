"""The begin-of-run record: what it holds, and what its hash of the configuration depends on."""

from __future__ import annotations

import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from sluice.pipeline.config.graph_file import load_graph, parse_graph
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Column, Schema
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.run.begin_of_run import config_sha256, make_begin_of_run
from sluice.pipeline.system.machine import processor

PROTOCOL = Path(__file__).resolve().parents[4] / "docs" / "protocol.md"


@pytest.fixture
def shipped():
    return Path(load_graph("hgcal").origin).read_text()


def test_the_record_has_run_models_software_host_and_clock():
    config = load_graph("hgcal")
    words = Schema((EVENT_ID, T_EVENT, T_INGEST, Column("words", "uint32", (12,))))
    graph = build_graph(config, words, ("event_id",))
    before = (time.time_ns(), time.monotonic_ns())
    record = make_begin_of_run(config, graph, 7)
    after = (time.time_ns(), time.monotonic_ns())
    assert record["run"] == 7
    assert record["models"]["tag"]["sha256"] == graph.models()["tag"]["sha256"]
    assert record["config_sha256"] == config_sha256(config)
    assert record["software"]["python"] == platform.python_version()
    assert record["software"]["numpy"] == version("numpy")
    assert record["host"]["name"] == platform.node()
    assert record["host"]["processor"] == processor()
    clock = record["clock"]
    assert before[0] <= clock["unix_ns"] <= after[0]
    assert before[1] <= clock["monotonic_ns"] <= after[1]
    table = PROTOCOL.read_text().partition("The begin-of-run record is frozen")[2]
    table = table.partition("\n\n")[2].partition("\n\n")[0]
    firsts = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {key for first in firsts for key in re.findall(r"`(\w+)`", first)} == set(record)


def test_the_hash_says_what_the_file_says_and_not_how(shipped):
    wanted = config_sha256(parse_graph(shipped, "here"))
    assert config_sha256(parse_graph(shipped, "there")) == wanted
    assert config_sha256(parse_graph("# a comment\n" + shipped, "here")) == wanted
    written_down = shipped.replace("[workers]", '[workers]\nstall_timeout = "60 s"')
    assert written_down != shipped
    assert config_sha256(parse_graph(written_down, "here")) == wanted
    tables = shipped.split("[sink]")
    assert config_sha256(parse_graph(f"[sink]{tables[1]}\n{tables[0]}", "here")) == wanted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("> 0.9", "> 0.91"),
        ('name = "hgcal"', 'name = "other"'),
        ("prescale = 100", "prescale = 10"),
    ],
)
def test_any_other_number_gives_another_hash(shipped, before, after):
    changed = shipped.replace(before, after, 1)
    assert changed != shipped
    assert config_sha256(parse_graph(changed, "")) != config_sha256(parse_graph(shipped, ""))
