"""Waiting for file descriptors: Linux's `ppoll`, for any number of descriptors and to the ns.

`select.select` refuses descriptors from 1,024 on, and `select.poll` rounds timeouts to ms, which is
as long as a latency budget may be.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
from collections.abc import Iterable

_PPOLL = ctypes.CDLL(None, use_errno=True).ppoll
#: Longest timeout, s: a day, because an infinite one does not fit into `struct timespec`.
_MAX_S = 86_400.0
_NS = 1_000_000_000


class _PollDescriptor(ctypes.Structure):
    """`struct pollfd`."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class DescriptorPoll:
    """Waits until one of some file descriptors can be read.

    Parameters
    ----------
    descriptors
        The file descriptors.
    """

    def __init__(self, descriptors: Iterable[int]) -> None:
        entries = [_PollDescriptor(descriptor, select.POLLIN, 0) for descriptor in descriptors]
        self._entries = (_PollDescriptor * len(entries))(*entries)
        #: `struct timespec`: seconds and ns.
        self._timeout = (ctypes.c_long * 2)()
        # Made once: converting them for each call would take longer than the call.
        self._arguments = (
            ctypes.byref(self._entries),
            ctypes.c_ulong(len(entries)),
            ctypes.byref(self._timeout),
            None,
        )

    def wait(self, timeout_s: float) -> bool:
        """Return whether one can be read, after at most `timeout_s` seconds.

        A signal ends the wait early: the caller's loop waits again after its handler has run.
        """
        timeout = self._timeout
        timeout[0], timeout[1] = divmod(int(min(max(timeout_s, 0.0), _MAX_S) * _NS), _NS)
        ready = _PPOLL(*self._arguments)
        if ready < 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
        return bool(ready > 0)
