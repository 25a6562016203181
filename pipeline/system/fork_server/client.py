"""Where the processes of runs come from: a small process that has imported what they need.

A fresh interpreter takes most of a second to import what a worker is made of; a fork of one that
has it all takes milliseconds. The nursery has no threads, sockets or devices, so that a fork of it
is as good as a fresh one; the engine, which has, is never forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair

from sluice.pipeline.core.errors import RunError

from .child import ChildProcess
from .server import (
    ERROR_PREFIX,
    IGNORED_SIGNALS,
    MOST_BYTES,
    READY,
    SEPARATOR,
    daemonise,
    exit_after,
    preload,
    serve,
)

#: The descriptor at which a nursery finds the engine when it is a program of its own.
LINE = 3
#: How long it may take to import, to answer, and to end.
_READY_S, _BIRTH_S, _GRACE_S = 60.0, 5.0, 5.0
#: Else NumPy's linear algebra starts threads when it is imported, which is dear, too.
_SINGLE = {"OPENBLAS_NUM_THREADS": "1"}
#: What `prctl` calls them.
_SET_SUBREAPER, _GET_SUBREAPER = 36, 37
_libc = ctypes.CDLL(None, use_errno=True)


class ForkServer:
    """A nursery of this process; one that dies is replaced.

    Parameters
    ----------
    modules
        What it imports for its children.
    fork_now
        Whether this process has neither threads nor sockets nor devices yet. Then the nursery is a
        fork of it, and what both need is imported once; else a program of its own.

    Attributes
    ----------
    deaths
        How nurseries died whose death nobody has noted yet, in words.
    """

    def __init__(self, modules: Sequence[str], *, fork_now: bool = False) -> None:
        self._modules = tuple(modules)
        self.crashes: list[str] = []
        self._begin(fork_now=fork_now)

    def _begin(self, *, fork_now: bool) -> None:
        self._ready = False
        self._line, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._born_s = time.monotonic()
        with theirs:
            pid = _fork(theirs, self._modules) if fork_now else _execute(theirs, self._modules)
        self._child = ChildProcess(pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def ensure_running(self) -> bool:
        """Replace it if it has died, without waiting; whether it can bear at once."""
        if self._child.exit_code is not None:
            self._replace()
        if not self._ready:
            self._ready = self._hear(0.0) == READY
        if not self._ready and time.monotonic() - self._born_s > _READY_S:
            self._child.kill()
        return self._ready

    def spawn(self, module: str, argument: str) -> ChildProcess:
        """Return a new child of this process that runs ``start(argument)`` of a module.

        Raises
        ------
        RunError
            If the system refuses another process, or nurseries die of it.
        """
        request = module.encode() + SEPARATOR + argument.encode()
        for _ in range(2):
            answer = self._ask(request)
            if answer.startswith(ERROR_PREFIX):
                why = answer.removeprefix(ERROR_PREFIX).decode()
                raise RunError(f"cannot start {module} {argument}: {why}")
            if answer:
                return ChildProcess(int(answer))
            self._replace()
        raise RunError(f"cannot start {module} {argument}: {self.crashes[-1]}")

    def close(self) -> None:
        """End it; its children live on."""
        self._line.close()
        if not self._child.wait(_GRACE_S):
            self._child.kill()
            self._child.wait(_GRACE_S)

    def _replace(self) -> None:
        self._child.kill()
        self._child.wait(_GRACE_S)
        self.crashes.append(f"nursery (pid {self.pid}) ended {self._child.exit_description}")
        self._line.close()
        self._begin(fork_now=False)

    def _ask(self, request: bytes) -> bytes:
        """Return the nursery's answer; of one that fails the last word, which may be nothing."""
        with _adopting():
            try:
                if not self._ready and self._hear(_READY_S) != READY:
                    return b""
                self._ready = True
                self._line.settimeout(_BIRTH_S)
                self._line.send(request)
            except OSError:
                return b""
            answer = self._hear(_BIRTH_S)
            if not answer:  # it hangs: dead it says no more, but may have said it this moment
                self._child.kill()
                self._child.wait(_GRACE_S)
                answer = self._hear(0.0)
            return answer

    def _hear(self, timeout_s: float) -> bytes:
        """Return what the nursery says; nothing if it is silent or gone."""
        self._line.settimeout(timeout_s)
        try:
            return self._line.recv(MOST_BYTES)
        except OSError:
            return b""


def _fork(line: socket, modules: Sequence[str]) -> int:
    preload(modules)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        exit_after(lambda: _live(line))
    return pid


def _live(line: socket) -> int:
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    daemonise(line)
    serve(line)
    return 0


def _execute(line: socket, modules: Sequence[str]) -> int:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        return os.posix_spawn(
            sys.executable, [sys.executable, "-m", __package__, *modules], _SINGLE | os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, line.fileno(), LINE)],
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _adopting() -> Iterator[None]:
    """Make this process the parent of its descendants' orphans."""
    before = ctypes.c_int()
    _libc.prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    if _libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise RunError(f"cannot adopt processes: {os.strerror(number)}")
    try:
        yield
    finally:
        _libc.prctl(_SET_SUBREAPER, before.value, 0, 0, 0)
