"""Processes side by side that end with the one that started them, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context

#: Of prctl(2): the signal that a process gets when its parent is gone.
_PR_SET_PDEATHSIG = 1


@contextmanager
def side_by_side(
    count: int, prepare: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; whatever leaves the block by an exception kills them.

    Parameters
    ----------
    count
        How many.
    prepare
        What each calls first.
    """
    # Spawned, not forked: neither torch nor a compiled kernel's threads survive a fork.
    others = set(active_children())
    given = (os.getpid(), prepare)
    with ProcessPoolExecutor(count, get_context("spawn"), _begin, given) as pool:
        try:
            yield pool
        except BaseException:
            # Else leaving waits for tasks that take hours.
            for child in set(active_children()) - others:
                child.kill()
            raise


def _begin(parent: int, prepare: Callable[[], None] | None) -> None:
    # An interrupt from a terminal reaches all; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # Gone before the kernel was asked to tell.
        os._exit(1)
    if prepare is not None:
        prepare()
