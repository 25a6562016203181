"""The controller of the ladder tells the policy what it sees, and applies each step once."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest

from sluice.pipeline.engine import ladder
from sluice.pipeline.engine.ladder import LadderController
from sluice.pipeline.sources.base import UNLIMITED, Available

_S = 1_000_000_000


class Batching:
    """Batches of a given age are late; a batch needs a millisecond an event, less by rung."""

    rung = 0

    def is_late(self, events, age_s):
        return age_s > 0.5

    def required_s(self, events, rung):
        return events * 1e-3 / (1 + rung)


@pytest.fixture
def run(monkeypatch):
    """A controller on three rungs, with a clock, what the policy is given, and the accounting."""
    now = [1000 * _S]
    monkeypatch.setattr(ladder.time, "monotonic_ns", lambda: now[0])
    graph = SimpleNamespace(rungs=3, decision_stage=lambda: None)
    accounting = Mock()
    context = SimpleNamespace(graph=graph, accounting=accounting, source=object())
    batching = Batching()
    controller = LadderController(context, batching)
    return SimpleNamespace(
        now=now, accounting=accounting, batching=batching, controller=controller,
        policy=controller._ladder,
    )  # fmt: skip


def send(run, age_s, events=100, workers=1):
    waiting = Available(events, run.now[0] - int(age_s * _S))
    return run.controller.choose(waiting, events, workers)


@pytest.mark.parametrize(("rung", "workers", "above_s"), [(0, 1, 0.1), (0, 4, 0.025), (0, 0, 0.1),
                                                          (1, 2, 0.05), (2, 1, 0.05)])  # fmt: skip
def test_the_policy_learns_the_load_of_the_rung_above(run, rung, workers, above_s):
    run.policy.rung = rung
    run.policy.on_batch = Mock()
    send(run, 0.6, workers=workers)
    send(run, 0.4, workers=workers)
    expected = [call(late=late, above_s=pytest.approx(above_s), now_s=pytest.approx(1000.0))
            for late in (True, False)]  # fmt: skip
    assert run.policy.on_batch.mock_calls == expected


def test_steps_down_and_up_are_applied_once_with_their_time(run):
    for _ in range(8):
        run.now[0] += _S // 100
        rung = send(run, 1.0)
    stepped_ns = run.now[0]
    assert (rung, run.batching.rung) == (1, 1)
    for _ in range(40):  # a second of rest, by the tick alone
        run.now[0] += _S // 25
        run.controller.tick()
    assert run.batching.rung == 0
    down, up = run.accounting.enter_rung.mock_calls
    assert down == call(1, stepped_ns)
    assert up.args[0] == 0
    assert stepped_ns + _S <= up.args[1] <= stepped_ns + 1.1 * _S


def test_a_file_is_never_late(run):
    run.policy.on_batch = Mock()
    assert run.controller.choose(UNLIMITED, 100, 1) == 0
    run.policy.on_batch.assert_not_called()
