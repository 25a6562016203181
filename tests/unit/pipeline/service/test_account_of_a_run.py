"""A run whose account is not right exits with an error; report, log and terminal say what differs.

Each test plants a fault in one place, which the books that other code keeps show.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.engine.inline import InlineEngine
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import Ledger
from sluice.pipeline.sinks.recording import RecordingSink
from sluice.pipeline.sources.recording import RecordingSource

EVENTS = 500
WORDS = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,), "link words")))
main = importlib.import_module("sluice.pipeline.cli.main")


@pytest.fixture
def replay(wafers, tmp_path, monkeypatch, to_toml, hgcal, capsys, caplog):
    """Replay 500 wafers in this process; return exit code, report, standard error and log."""
    tables, source = hgcal(), tmp_path / "in.arrows"
    tables["graph"]["batch_events"], tables["monitor"] = 200, []
    with RecordingWriter(source, WORDS, {"events": EVENTS}) as writer:
        writer.write(EventBatch(wafers.select(WORDS.names).columns, EVENTS))
    graph, report = tmp_path / "graph.toml", tmp_path / "report.json"
    caplog.set_level(logging.INFO)

    def run(*, keep="all"):
        columns = ["event_id", "outcome"]
        tables["sink"] = {"use": "recording", "columns": columns, "keep": keep}
        graph.write_text(to_toml(tables))
        words = ["replay", source, "--graph", graph, "--engine", "inline", "--report", report,
                 "--out", tmp_path / "out.arrows"]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["sluice", *map(str, words)])
        code = main._run_app()
        return code, json.loads(report.read_text()), capsys.readouterr().err, caplog.text

    return run


def one_less(batch):
    return batch.slice(0, batch.events - 1)


def engine_loses_one(patch):
    """It is counted as offered, and no stage sees it."""
    process = InlineEngine._process
    patch(InlineEngine, "_process", lambda self, batch, rung: process(self, one_less(batch), rung))
    return f"the ledger does not close: {{'offered': {EVENTS},"


def source_loses_one(patch):
    read = RecordingSource.read

    def fewer(self, max_events):
        batch = read(self, max_events)
        return batch if batch is None or batch.events == 200 else one_less(batch)

    patch(RecordingSource, "read", fewer)
    return "the input has 500 events, 499 were offered"


def sink_loses_one(patch):
    write = RecordingSink.write

    def fewer(self, batch, commit):
        write(self, one_less(batch) if commit.next == 3 else batch, commit)

    patch(RecordingSink, "write", fewer)
    return "the recording has 499 events, 500 were committed for it"


def account_counts_one_as_another(patch):
    count_all = Ledger.count_all

    def other(self, counts):
        accepted = counts[Outcome.ACCEPTED] > 0
        counts[Outcome.ACCEPTED] -= accepted
        counts[Outcome.REJECTED] += accepted
        count_all(self, counts)

    patch(Ledger, "count_all", other)
    return "the sink committed"


def last_time_is_dropped(patch):
    patch(RunAccounting, "stop", lambda self, now_ns: None)
    return "the run took"


def time_of_a_state_is_dropped(patch):
    enter = Ledger.enter_state

    def forgetful(self, state, now_ns):
        enter(self, state, now_ns)
        self._spent_ns[state] = 0

    patch(Ledger, "enter_state", forgetful)
    return "the ledger does not close"


def run_starts_too_late(patch):
    start = RunAccounting.start
    patch(RunAccounting, "start", lambda self, now_ns: start(self, now_ns + 50_000))
    return "the run took"


FAULTS = [
    engine_loses_one, source_loses_one, sink_loses_one, account_counts_one_as_another,
    last_time_is_dropped, time_of_a_state_is_dropped, run_starts_too_late,
]  # fmt: skip


@pytest.mark.parametrize("plant", FAULTS)
def test_a_run_that_does_not_close_fails_and_says_why(plant, replay, monkeypatch):
    words = plant(monkeypatch.setattr)
    code, report, err, log = replay()
    assert code == 5
    assert (report["closed"], report["state"]) == (False, "ERROR")
    assert words in report["error"]
    assert f"sluice: error: {report['error']}" in err
    assert report["error"] in log


@pytest.mark.parametrize("keep", ["all", "accepted"])
def test_a_run_whose_books_agree_closes(keep, replay):
    code, report, err, _ = replay(keep=keep)
    assert (code, report["closed"], report["state"], report["error"]) == (0, True, "STOPPED", None)
    events, seconds = report["events"], report["seconds"]
    assert events["offered"] == EVENTS
    assert report["output"]["events"] == (EVENTS if keep == "all" else events["accepted"])
    spent = [seconds[state] for state in ("live", "paused", "busy", "down")]
    np.testing.assert_allclose(sum(spent), seconds["wall"], rtol=0, atol=1e-9)  # rounding of five
    assert "error" not in err


def test_a_sink_that_keeps_accepted_events_has_as_many_as_were_accepted(replay, monkeypatch):
    words = sink_loses_one(monkeypatch.setattr)
    code, report, _, _ = replay(keep="accepted")
    accepted = report["events"]["accepted"]
    assert code == 5
    assert f"{accepted - 1} events, {accepted} were" in report["error"]
    assert words.split(" has ")[0] in report["error"]
