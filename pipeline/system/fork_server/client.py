"""The fork server: a small process that has imported what workers need and forks them.

A new interpreter takes most of a second to import what a worker needs; a fork of a process that has
imported it takes milliseconds. The fork server has no threads, ZeroMQ sockets or devices, so a fork
of it is as safe as a new interpreter. The engine, which has all of these, is never forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair

from sluice.pipeline.core.errors import RunError

from .child import ChildProcess
from .server import (
    ERROR_PREFIX,
    IGNORED_SIGNALS,
    MAX_MESSAGE_BYTES,
    READY,
    SEPARATOR,
    daemonise,
    exit_after,
    preload,
    serve,
)

#: Descriptor of the socket to the engine in a fork server that was started as a new interpreter.
CHANNEL_FD = 3
#: Time for the fork server to get ready, to reply to a request, and to end, s.
_READY_TIMEOUT_S, _REPLY_TIMEOUT_S, _EXIT_TIMEOUT_S = 60.0, 5.0, 5.0
#: Keeps NumPy's linear algebra from starting threads at its import.
_SINGLE_THREADED_ENV = {"OPENBLAS_NUM_THREADS": "1"}
#: Options of `prctl`, from <sys/prctl.h>.
_SET_SUBREAPER, _GET_SUBREAPER = 36, 37
_libc = ctypes.CDLL(None, use_errno=True)


class ForkServer:
    """A fork server of this process; if it exits it is replaced.

    Parameters
    ----------
    modules
        Modules that it imports for its children.
    fork_now
        Whether to fork this process, which imports shared modules only once. This process must
        not have threads, sockets or devices yet. Otherwise a new interpreter is started.

    Attributes
    ----------
    crashes
        Descriptions of the exits of fork servers, not yet taken by the caller.
    requested
        Module and argument of the child that was requested and is not taken yet; empty if none.
    """

    def __init__(self, modules: Sequence[str], *, fork_now: bool = False) -> None:
        self._modules = tuple(modules)
        self.crashes: list[str] = []
        self.requested = ""
        self._launch(fork_now=fork_now)

    def _launch(self, *, fork_now: bool) -> None:
        self._ready = False
        self._channel, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._started_s = time.monotonic()
        with theirs:
            pid = (
                _fork(theirs, self._modules)
                if fork_now
                else _start_interpreter(theirs, self._modules)
            )
        self._child = ChildProcess(pid)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def ensure_running(self) -> bool:
        """Replace the process if it has exited, without waiting; return whether it can fork now."""
        if self._child.exit_code is not None and not self.requested:
            self._replace()
        if not self._ready:
            self._ready = self._receive(0.0) == READY
        if not self._ready and time.monotonic() - self._started_s > _READY_TIMEOUT_S:
            self._child.kill()
        return self._ready

    def spawn(self, module: str, argument: str) -> ChildProcess:
        """Fork a new child of this process that runs ``start(argument)`` of a module.

        Raises
        ------
        RunError
            If the system refuses another process, or the fork server exits repeatedly.
        """
        for _ in range(2):
            if self._await_ready():
                self.request(module, argument)
                while self.requested:
                    if child := self.take_child(wait_s=_REPLY_TIMEOUT_S):
                        return child
                self._child.wait(_EXIT_TIMEOUT_S)
            self._replace()
        raise RunError(f"cannot start {module} {argument}: {self.crashes[-1]}")

    def request(self, module: str, argument: str) -> None:
        """Ask for a child as `spawn` does, without waiting; `take_child` returns it.

        Meanwhile this process adopts descendants whose own parent exits.
        """
        self.requested = f"{module} {argument}"
        self._requested_s = time.monotonic()
        self._subreaper_before = _set_subreaper(1)
        self._channel.settimeout(0.0)
        with suppress(OSError):  # it has exited: no reply comes
            self._channel.send(module.encode() + SEPARATOR + argument.encode())

    def take_child(self, wait_s: float = 0.0) -> ChildProcess | None:
        """Return the child that was requested last; None while there is no reply.

        Parameters
        ----------
        wait_s
            Time to wait for the reply, s.

        Raises
        ------
        RunError
            If the system refuses another process.
        """
        has_exited = self._child.exit_code is not None  # a reply may still be there
        answer = self._receive(wait_s)
        if not answer and not has_exited:
            if time.monotonic() - self._requested_s >= _REPLY_TIMEOUT_S:
                self._child.kill()  # it hangs
            return None
        what, self.requested = self.requested, ""
        _set_subreaper(self._subreaper_before)
        if answer.startswith(ERROR_PREFIX):
            why = answer.removeprefix(ERROR_PREFIX).decode()
            raise RunError(f"cannot start {what}: {why}")
        return ChildProcess(int(answer)) if answer else None

    def cancel(self) -> None:
        """Kill the child that was requested and not taken, or the fork server if it hangs."""
        while self.requested:
            with suppress(RunError):  # then there is no child
                child = self.take_child(wait_s=_REPLY_TIMEOUT_S)
                if child is not None:
                    child.kill()
                    child.wait(_EXIT_TIMEOUT_S)

    def close(self) -> None:
        """End the fork server; its children keep running."""
        self._channel.close()
        if not self._child.wait(_EXIT_TIMEOUT_S):
            self._child.kill()
            self._child.wait(_EXIT_TIMEOUT_S)

    def _replace(self) -> None:
        self._child.kill()
        self._child.wait(_EXIT_TIMEOUT_S)
        self.crashes.append(f"fork server (pid {self.pid}) ended {self._child.exit_description}")
        self._channel.close()
        self._launch(fork_now=False)

    def _await_ready(self) -> bool:
        """Wait until it is ready; False if it has exited or takes too long."""
        if not self._ready:
            self._ready = self._receive(_READY_TIMEOUT_S) == READY
        return self._ready

    def _receive(self, timeout_s: float) -> bytes:
        """Return the next message of the fork server; empty after a timeout or its exit."""
        self._channel.settimeout(timeout_s)
        try:
            return self._channel.recv(MAX_MESSAGE_BYTES)
        except OSError:
            return b""


def _fork(channel: socket, modules: Sequence[str]) -> int:
    preload(modules)
    sys.stdout.flush()
    sys.stderr.flush()
    parent_pid = _parent_pid()
    pid = os.fork()
    if not pid:
        exit_after(lambda: _run_server(channel, parent_pid))
    return pid


def _parent_pid() -> int:
    """Return this process's id for a child that shall end with it.

    0 outside the main thread: the child would end with the thread that started it.
    """
    return os.getpid() if threading.current_thread() is threading.main_thread() else 0


def _run_server(channel: socket, parent_pid: int) -> int:
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    daemonise(channel, parent_pid)
    serve(channel)
    return 0


def _start_interpreter(channel: socket, modules: Sequence[str]) -> int:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
    try:
        return os.posix_spawn(
            sys.executable, [sys.executable, "-m", __package__, str(_parent_pid()), *modules],
            _SINGLE_THREADED_ENV | os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, channel.fileno(), CHANNEL_FD)],
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_subreaper(value: int) -> int:
    """Make this process the parent of descendants whose own parent exits, or not; return before."""
    before = ctypes.c_int()
    _libc.prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    if _libc.prctl(_SET_SUBREAPER, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise RunError(f"cannot become a child subreaper: {os.strerror(number)}")
    return before.value
