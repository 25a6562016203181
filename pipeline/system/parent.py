"""The end of a process together with its parent, also when the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal

#: Option of prctl(2): the signal that a process gets when the thread that is its parent has exited.
_SET_PARENT_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent_pid: int) -> None:
    """Kill this process when its parent exits; end it now if the parent has exited already.

    The parent of a process is a thread: the one that started it, or the main thread of the process
    that has adopted it.

    Parameters
    ----------
    parent_pid
        Process id of the parent.
    """
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it exited before prctl was called: no signal will come
        os._exit(1)
