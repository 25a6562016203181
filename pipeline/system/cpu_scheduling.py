"""Who makes way for whom on the cores.

Linux lets a thread that wakes up interrupt the one that runs, which is what a live stream wants.
Where throughput counts, SCHED_BATCH lets each work on for longer: it interrupts nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: How long a thread may go on in the interpreter while another waits for it. Python's own 5 ms are
#: the whole latency budget of a trigger: a monitor or a progress bar must not take them from it.
SWITCH_INTERVAL_S = 200e-6


def change_policy(before: int, after: int) -> None:
    """Change the scheduling policy of this thread, unless somebody has chosen another.

    Threads and processes that it starts afterwards inherit it.

    Parameters
    ----------
    before, after
        As in ``os.SCHED_OTHER`` and ``os.SCHED_BATCH``; anything but `before` stays.
    """
    if os.sched_getscheduler(0) == before:
        os.sched_setscheduler(0, after, os.sched_param(0))


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Let threads of this process take short turns in the interpreter."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
