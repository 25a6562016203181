"""Inside the nursery: waits for requests, and forks a process for each that is the engine's child.

A process between the two forks ends at once, so that the system gives the new one to the engine,
which adopts what is orphaned meanwhile. The new one waits for that, and for the engine to know of
it; where the nursery dies before, it ends without having done anything.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from typing import NoReturn

from setproctitle import setproctitle

READY, PROCEED = b"ready", b"go"
#: Between a module and its argument in a request; at the head of an answer, what went wrong.
SEPARATOR, ERROR_PREFIX = b"\0", b"!"
MOST_BYTES = 8192
#: Signals that reach the whole process group are for the engine to understand.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def preload(modules: Iterable[str]) -> None:
    """Import what children will need; what cannot be, a child or the engine tells of."""
    for module in modules:
        with suppress(Exception):
            import_module(module)
    gc.freeze()  # the collector need not touch, and so copy, what is shared with children


def daemonise(line: socket) -> None:
    """Be a process of its own: deaf to signals, no descriptor but `line` and the standard's."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != line.fileno():
            with suppress(OSError):  # the one that listed them is closed already
                os.close(int(name))
    nothing = os.open(os.devnull, os.O_RDONLY)
    if nothing:
        os.dup2(nothing, 0)
        os.close(nothing)
    setproctitle("sluice nursery")


def serve(line: socket) -> None:
    """Answer each request with the process id of a new process, until the engine is gone."""
    with suppress(ConnectionError):
        line.send(READY)
        while request := line.recv(MOST_BYTES):
            _bear(line, request)


def exit_after(play: Callable[[], int]) -> NoReturn:
    """Play a part, then end this process; nothing of who forked it is cleaned up here."""
    code = 1
    try:
        code = play()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _bear(line: socket, request: bytes) -> None:
    """Fork a process by way of another, tell the engine of it, then let it live."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    with ours:
        with theirs:
            try:
                between = os.fork()
            except OSError as error:
                line.send(ERROR_PREFIX + str(error).encode())
                return
            if not between:
                ours.close()
                exit_after(lambda: _fork_on(line, theirs, request))
        answer = ours.recv(MOST_BYTES)
        os.waitpid(between, 0)
        line.send(answer or ERROR_PREFIX + b"it died on the way")
        with suppress(ConnectionError):
            ours.send(PROCEED)


def _fork_on(line: socket, gate: socket, request: bytes) -> int:
    """Fork the process that shall live, and end; return the exit code of either."""
    try:
        born = os.fork()
    except OSError as error:
        gate.send(ERROR_PREFIX + str(error).encode())
        return 1
    if born:
        gate.send(str(born).encode())
        return 0
    line.close()
    module, _, argument = request.decode().partition(SEPARATOR.decode())
    setproctitle(f"sluice {module.rpartition('.')[2]} {argument}")
    with gate:
        if gate.recv(len(PROCEED)) != PROCEED:
            return 1
    start: Callable[[str], int] = import_module(module).start
    return start(argument)
