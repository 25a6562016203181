"""CPU scheduling: the policy of the kernel, and the switch interval of the interpreter.

Under SCHED_OTHER a thread that wakes up preempts the running one, which keeps the latency of a live
stream low. Where throughput counts, a thread under SCHED_BATCH does not preempt others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Switch interval of the interpreter, s: the longest time for which a thread holds it while another
#: waits. Python's default of 5 ms is the whole latency budget of a trigger, which a monitor or a
#: progress bar must not use up.
SWITCH_INTERVAL_S = 200e-6


def change_policy(before: int, after: int) -> None:
    """Change the scheduling policy of this thread from `before` to `after`.

    Threads and processes that it starts afterwards inherit the policy.

    Parameters
    ----------
    before
        Expected policy, such as ``os.SCHED_OTHER``; a thread with another policy keeps it.
    after
        New policy, such as ``os.SCHED_BATCH``.
    """
    if os.sched_getscheduler(0) == before:
        os.sched_setscheduler(0, after, os.sched_param(0))


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Set the switch interval of the interpreter to `SWITCH_INTERVAL_S` within the context."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
