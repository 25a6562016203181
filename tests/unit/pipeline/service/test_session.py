"""The end of a run, step by step, and what stays open: doubles of engine and source look on."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

import pytest

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import DataError, RunError
from sluice.pipeline.engine.base import SinkReport
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import RunTime
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.service import session
from sluice.pipeline.service.session import RunOptions, finish_run, save_report, validate

#: Descriptors that are kept for the end of a run.
_RESERVE = 16


def _descriptors():
    return len(os.listdir("/proc/self/fd"))


class Source:
    """A source of no events; a live one has a socket."""

    expected, corruption, schema = 0, None, ()

    def __init__(self, socket=None):
        self.socket, self.calls = socket, []

    def open(self):
        self.calls.append("open")

    def close(self):
        self.calls.append(("close", _descriptors()))


class Engine:
    """Notes what holds while it runs and while it finishes."""

    def __init__(self, context, in_loop):
        self.context, self.in_loop, self.seen = context, in_loop, {}
        self.run_error = self.finish_error = None

    def _see(self, what):
        self.seen[what] = (self.in_loop.is_set(), _descriptors(), list(self.context.source.calls))

    def run(self):
        self._see("run")
        self.context.accounting.enter_state(RunTime.LIVE, time.monotonic_ns())
        if self.run_error:
            raise self.run_error

    def finish(self):
        self._see("finish")
        if self.finish_error:
            raise self.finish_error
        return SinkReport(output={"events": 0}, committed=[0] * 8)


@pytest.fixture
def run(words_schema):
    """Return a run that is about to begin, of a live source or of a file."""

    def make(socket=None):
        graph = build_graph(load_graph("hgcal"), words_schema, ("event_id",))
        control = RunState()
        control.transition(State.CONFIGURED)
        control.transition(State.RUNNING)
        accounting = RunAccounting(graph, 7, Quarantine(None, graph.inputs))
        context = SimpleNamespace(accounting=accounting, control=control, source=Source(socket),
                                  sink=SimpleNamespace(columns=(), keep="all"))  # fmt: skip
        in_loop = threading.Event()
        engine = Engine(context, in_loop)
        return SimpleNamespace(context=context, engine=engine, in_loop=in_loop)

    return make


@pytest.mark.parametrize("live", [True, False])
def test_the_end_of_a_run_step_by_step(run, live):
    run = run(socket=object() if live else None)
    before = _descriptors()
    report = finish_run(run.context, run.engine, run.in_loop)
    # Half of the descriptors are free for the sink, and what is left for the report only after a
    # live source has closed: peers that come would take them.
    assert run.engine.seen == {
        "run": (True, before + _RESERVE, []),
        "finish": (False, before + _RESERVE // 2, []),
    }
    assert run.context.source.calls == ([("close", before + _RESERVE // 2)] if live else [])
    assert _descriptors() == before
    assert (report["state"], report["error"], report["output"]) == ("STOPPED", None, {"events": 0})


@pytest.mark.parametrize("step", ["run", "finish"])
def test_a_run_that_fails_is_finished_and_has_a_report(run, step):
    run = run(socket=object())
    before = _descriptors()
    setattr(run.engine, f"{step}_error", RunError(f"{step} broke", hint="mend it"))
    report = finish_run(run.context, run.engine, run.in_loop)
    assert list(run.engine.seen) == ["run", "finish"]
    assert (report["state"], report["error"], report["hint"]) == (
        "ERROR", f"{step} broke", "mend it",
    )  # fmt: skip
    assert len(run.context.source.calls) == 1
    assert _descriptors() == before


def test_a_report_that_cannot_be_written_is_an_error_of_the_run(run, monkeypatch):
    context = run().context

    def fail(*_, **__):
        raise RunError("report: cannot write it")

    monkeypatch.setattr(session, "write_report", fail)
    report = {"run": 7, "state": "STOPPED", "error": None, "hint": None}
    save_report(context, report, RunOptions(run=7))
    assert context.control.state is State.ERROR
    assert report == {"run": 7, "state": "ERROR", "error": "report: cannot write it", "hint": None}


@pytest.mark.parametrize(
    ("options", "replaced"), [({}, False), ({"force": True}, True), ({"resume": True}, True)]
)
def test_a_report_is_replaced_if_that_was_asked_for(run, monkeypatch, options, replaced):
    asked = []
    monkeypatch.setattr(session, "write_report", lambda *_, replace: asked.append(replace))
    save_report(run().context, {"run": 7}, RunOptions(run=7, **options))
    assert asked == [replaced]


@pytest.mark.parametrize(("schema", "calls"), [((), ["open", "close"]), (("words",), [])])
def test_a_check_opens_only_a_source_whose_columns_are_unknown_and_closes_it(
    monkeypatch, schema, calls
):
    source = Source()
    source.schema = schema
    parts = {"source": source, "sink": SimpleNamespace(columns=())}
    monkeypatch.setattr(session, "build", lambda kind, *_: parts[kind])
    monkeypatch.setattr(session, "build_graph", lambda *_: None)
    validate(load_graph("hgcal"))
    assert [call if call == "open" else call[0] for call in source.calls] == calls


def test_a_check_fails_with_the_graph(monkeypatch):
    def fail(*_):
        raise DataError("a column is absent")

    parts = {"source": Source(), "sink": SimpleNamespace(columns=())}
    monkeypatch.setattr(session, "build", lambda kind, *_: parts[kind])
    monkeypatch.setattr(session, "build_graph", fail)
    with pytest.raises(DataError, match="a column is absent"):
        validate(load_graph("hgcal"))
