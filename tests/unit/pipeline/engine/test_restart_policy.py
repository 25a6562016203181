"""A dead process is started again: at once, then ever later, and not for ever."""

from __future__ import annotations

import pytest

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.engine import restart_policy
from sluice.pipeline.engine.restart_policy import RestartPolicy


def test_waits_double_and_are_bounded():
    restarts = RestartPolicy(20, 1e9)
    waits = [restarts.delay_s("a", "killed", float(at)) for at in range(20)]
    assert waits[0] == 0
    assert waits[1:7] == [pytest.approx(0.1 * 2**i) for i in range(6)]
    assert set(waits[7:]) == {5.0}


def test_the_wait_is_that_of_the_process_the_bound_that_of_all():
    restarts = RestartPolicy(2, 600)
    assert restarts.delay_s("a", "a died", 0.0) == 0
    assert restarts.delay_s("b", "b died", 1.0) == 0
    with pytest.raises(RunError, match=r"c died; no restarts left of 2 in 600 s.*3 exits: a died"):
        restarts.delay_s("c", "c died", 2.0)


def test_old_exits_do_not_count():
    restarts = RestartPolicy(1, 10)
    for at in range(0, 1100, 11):
        assert restarts.delay_s("a", "killed", float(at)) == 0
    with pytest.raises(RunError, match="no restarts left"):
        restarts.delay_s("a", "killed", 1090.0)


def test_none_allowed():
    with pytest.raises(RunError, match="killed; no restarts left of 0"):
        RestartPolicy(0, 10).delay_s("a", "killed", 0.0)


def test_exits_with_a_suspect_batch_do_not_count_for_a_while():
    """The search for the event that is the cause must not end the run; a crash loop must."""
    restarts = RestartPolicy(2, 600.0)
    for number in range(restart_policy._MAX_UNCOUNTED):
        assert 0 < restarts.delay_s("compute-0", "killed", float(number), suspect=True) <= 0.1
    assert restarts.delay_s("compute-0", "killed", 200.0) == 0
    restarts.delay_s("compute-0", "killed", 201.0, suspect=True)
    with pytest.raises(RunError, match="no restarts left of 2"):
        restarts.delay_s("compute-0", "killed", 202.0, suspect=True)
