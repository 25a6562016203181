"""The summary of a run that people read: losses, restarts and the ladder beside the rates."""

from __future__ import annotations

import pytest

from sluice.pipeline.cli.common import summary
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.sources.base import Losses


@pytest.fixture
def accounting(words_schema):
    graph = build_graph(load_graph("hgcal"), words_schema, ("event_id",))
    return RunAccounting(graph, 7, Quarantine(None, graph.inputs))


@pytest.fixture
def rows(capsys):
    def show(accounting):
        accounting.end()
        summary.show(accounting.snapshot().report() | {"output": {}}, None)
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {words[0]: " ".join(words[1:]) for words in lines if words}

    return show


def test_a_quiet_run_says_that_nothing_was_lost(accounting, rows):
    shown = rows(accounting)
    assert (shown["lost"], shown["shed"]) == ("0", "0")
    assert shown["restarts"] == "none"
    assert shown["ladder"] == "full models only"
    assert shown["pass-through"] == "alone: 0"


def test_losses_restarts_and_the_worst_rung_are_shown(accounting, rows):
    accounting.start(0)
    accounting.record_losses(Losses(lost=1200, shed=34), "source")
    accounting.record_restart("compute-0")
    accounting.record_restart("compute-0")
    accounting.record_restart("sink")
    accounting.enter_rung(2, 1)
    accounting.enter_rung(1, 1_000_000_001)
    accounting.record_offered(EventBatch({}, 0))
    shown = rows(accounting)
    assert (shown["lost"], shown["shed"]) == ("1,200", "34")
    assert shown["restarts"] == "compute-0 2, sink 1"
    assert shown["ladder"] == "worst rung 2 of 3, 0 events there"
