"""The state to which the time of a run is counted: without commits, work that waits is down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sluice.pipeline.engine.distributed import liveness, state_clock
from sluice.pipeline.engine.distributed.liveness import StallWatchdog
from sluice.pipeline.engine.distributed.state_clock import StateClock
from sluice.pipeline.run.ledger import Ledger

S = 1_000_000_000


class InFlight:
    blocked = False
    batches = 1

    def __len__(self):
        return self.batches


@pytest.fixture
def run(monkeypatch):
    """A run whose time the test sets: its clock, ledger, watchdog, control and batches."""
    now = [100 * S]
    times = SimpleNamespace(monotonic_ns=lambda: now[0], monotonic=lambda: now[0] / S)
    monkeypatch.setattr(state_clock, "time", times)
    monkeypatch.setattr(liveness, "time", times)
    ledger, in_flight = Ledger(), InFlight()
    ledger.start(now[0])
    control = SimpleNamespace(paused=False)
    context = SimpleNamespace(accounting=ledger, control=control)
    pool = SimpleNamespace(working=True)
    batching = SimpleNamespace(full_service_s=0.010)
    dispatcher = SimpleNamespace(in_flight=in_flight, reader=SimpleNamespace(batching=batching))
    watchdog = StallWatchdog(60.0)
    clock = StateClock(context, pool, dispatcher, watchdog)

    def turns(seconds, *, commits=False, step_ms=50):
        for _ in range(round(seconds * 1000 / step_ms)):
            now[0] += step_ms * S // 1000
            if commits:
                watchdog.progress()
            clock.record()

    return SimpleNamespace(
        ledger=ledger, in_flight=in_flight, control=control, pool=pool, batching=batching,
        turns=turns,
    )  # fmt: skip


def seconds(run):
    spent = run.ledger.seconds()
    return {name: round(spent[name], 3) for name in ("live", "busy", "down", "paused")}


def test_a_run_that_commits_is_live(run):
    run.turns(10, commits=True)
    assert seconds(run) == {"live": 10, "busy": 0, "down": 0, "paused": 0}


def test_without_commits_while_work_waits_it_is_down_after_a_second(run):
    run.turns(6)
    assert seconds(run) == {"live": 1, "busy": 0, "down": 5, "paused": 0}
    run.turns(2, commits=True)
    assert seconds(run)["live"] == pytest.approx(3, abs=0.06)


def test_long_batches_are_no_stall(run):
    run.batching.full_service_s = 2.0
    run.turns(7)
    assert seconds(run)["down"] == 0


def test_without_work_it_is_live(run):
    run.in_flight.batches = 0
    run.turns(5)
    assert seconds(run)["live"] == 5


def test_time_in_which_ingest_itself_stood_still_is_down(run):
    run.turns(2, commits=True)
    run.turns(5, commits=True, step_ms=5000)
    run.turns(2, commits=True)
    assert seconds(run) == {"live": 4, "busy": 0, "down": 5, "paused": 0}


def test_a_pause_is_a_pause_also_a_long_one(run):
    run.control.paused = True
    run.turns(0.05)
    run.turns(5, step_ms=5000)
    assert seconds(run) == {"live": 0.05, "busy": 0, "down": 0, "paused": 5}
    assert run.ledger.closed
