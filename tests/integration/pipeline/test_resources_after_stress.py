"""After kills and swaps everything is as at the start: in the engine, in the process, in models."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from contextlib import suppress

import psutil
import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.engine.distributed.engine import DistributedEngine
from sluice.pipeline.engine.inline import InlineEngine
from sluice.pipeline.engine.model_swap import request_swap
from sluice.pipeline.inference.layers import LayersSession
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.run.state import State
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions

from . import resources

EVENTS, RATE_HZ = 6000, 2000
TAGGERS = ("wafer-tagger-half", "wafer-tagger")


@pytest.fixture
def config(make_graph, make_recording, tmp_path):
    """A graph in small batches that keeps all events, and its input."""
    source = make_recording(tmp_path / "w.arrows", EVENTS)
    columns = ["event_id", "packed", "score"]
    sink = {"use": "recording", "keep": "all", "columns": columns}
    graph = load_graph(str(make_graph(sink=sink, graph={"batch_events": 100, "window": 8})))

    def make(name):
        out = {"columns": columns, "keep": "all", "path": str(tmp_path / f"{name}.arrows")}
        return replace(
            graph, source=ComponentConfig("recording", "w", {"path": str(source)}),
            sink=ComponentConfig("recording", "o", out),
            workers=replace(graph.workers, compute=2), monitors=(),
        )  # fmt: skip

    return make


class Stress:
    """Acts at numbers of settled events, each time once: called all through a run.

    An action that is not done yet returns False, and is called again; until then the run pauses.
    """

    def __init__(self, actions):
        self.left = sorted(actions.items(), key=lambda item: -item[0])

    def __call__(self, control, accounting, source):
        if self.left and accounting.snapshot().settled >= self.left[-1][0]:
            if self.left[-1][1]():
                self.left.pop()
                control.remove_hold("stress")
            elif control.state in (State.RUNNING, State.PAUSED):
                control.add_hold("stress", "an action is not done yet")


def kill(role):
    """Kill one process of a role; return whether there was one."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if " ".join(child.cmdline()).split()[:2] == ["sluice", role]:
                os.kill(child.pid, signal.SIGKILL)
                return True
    return False


def swap(engines, tagger):
    """Return an action that lets the latest engine use another model."""
    requests = []

    def act():
        if not requests:
            requests.append(request_swap(engines[-1]._context, "tag", tagger))
        return requests[0].done

    return act


@pytest.fixture
def watch(monkeypatch):
    """Note engines as they start, and what they hold then and at the end of their main loop."""

    def begin(kind, look):
        engines, seen = [], []
        start, finish = kind.start, kind.finish

        def started(self):
            start(self)
            engines.append(self)
            seen.append(look(self))

        def finished(self):
            seen.append(look(self))
            return finish(self)

        monkeypatch.setattr(kind, "start", started)
        monkeypatch.setattr(kind, "finish", finished)
        return engines, seen

    return begin


def run(config, engine, stress):
    options = RunOptions(run=UNNUMBERED, engine=engine, rate_hz=RATE_HZ)
    report = run_graph(config, options, stress)
    assert (report["closed"], report["error"]) == (True, None)
    assert report["events"]["failed"] == 0
    assert report["output"]["events"] == EVENTS
    return report


def test_a_distributed_run_gives_everything_back(config, watch, runtime_folder):
    engines, seen = watch(DistributedEngine, resources.of_engine)

    run(config("first"), "distributed", Stress({}))  # what is imported and opened only once
    engines.clear()
    seen.clear()
    gc.collect()
    before = resources.of_process(runtime_folder)
    stress = Stress({
        100: lambda: kill("compute"), 400: swap(engines, TAGGERS[0]), 700: lambda: kill("sink"),
        1000: lambda: kill("compute"), 1300: swap(engines, TAGGERS[1]), 1600: lambda: kill("sink"),
        1900: lambda: kill("compute"),
    })  # fmt: skip
    report = run(config("second"), "distributed", stress)
    assert not stress.left
    assert report["restarts"].pop("sink") == 2
    assert sum(report["restarts"].values()) == 3
    assert len(report["swaps"]) == 2
    at_start, at_end = seen
    assert at_end == at_start
    engines.clear()
    gc.collect()
    assert resources.settled(before, runtime_folder) == before


def test_the_models_that_were_swapped_out_are_closed(config, watch, monkeypatch):
    sessions, closed = [], []
    begin, end = LayersSession.__init__, LayersSession.close

    def opened(self, *args):
        begin(self, *args)
        sessions.append(weakref.ref(self))

    def shut(self):
        closed.append(id(self))
        end(self)

    monkeypatch.setattr(LayersSession, "__init__", opened)
    monkeypatch.setattr(LayersSession, "close", shut)
    engines, seen = watch(InlineEngine, lambda _: len(sessions) - len(closed))

    for swaps in (1, 4):
        stress = Stress({500 * (n + 1): swap(engines, TAGGERS[n % 2]) for n in range(swaps)})
        report = run(config(f"{swaps}"), "inline", stress)
        assert len(report["swaps"]) == swaps
        assert len(sessions) == len(closed)  # all of the run
    first, after_one, again, after_four = seen
    assert first == again
    assert after_one == after_four == first + 1  # the one before, which may be needed again
    engines.clear()
    gc.collect()
    assert [session() for session in sessions if session() is not None] == []
