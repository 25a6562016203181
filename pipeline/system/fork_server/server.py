"""The main loop of the fork server: for each request it forks a process that is the engine's child.

It forks twice. The process in between exits at once, so that the kernel makes the engine, which is
a subreaper during the request, the parent of the new process. The new process waits until that is
done and the engine knows its process id; if the fork server exits before, it ends without any
effect.
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

from sluice.pipeline.system.parent import end_with_parent

READY, PROCEED = b"ready", b"go"
#: SEPARATOR stands between module and argument of a request; ERROR_PREFIX begins an error reply.
SEPARATOR, ERROR_PREFIX = b"\0", b"!"
#: Largest request or reply, bytes.
MAX_MESSAGE_BYTES = 8192
#: Signals that reach the whole process group; only the engine reacts to them.
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def preload(modules: Iterable[str]) -> None:
    """Import modules for the children; import errors are raised later, by the children."""
    for module in modules:
        with suppress(Exception):
            import_module(module)
    gc.freeze()  # keeps the collector from writing to, and so copying, memory shared with children


def daemonise(channel: socket, parent_pid: int) -> None:
    """Ignore `IGNORED_SIGNALS`; close all descriptors but the standard ones and `channel`.

    Unless `parent_pid` is 0 the process is killed when its parent exits, also while it is stopped.
    """
    if parent_pid:
        end_with_parent(parent_pid)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_SIGNALS)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != channel.fileno():
            with suppress(OSError):  # the descriptor of the listing is closed already
                os.close(int(name))
    null = os.open(os.devnull, os.O_RDONLY)
    if null:
        os.dup2(null, 0)
        os.close(null)
    setproctitle("sluice fork-server")


def serve(channel: socket) -> None:
    """Reply to each request with the process id of a new process, until the engine exits."""
    with suppress(ConnectionError):
        channel.send(READY)
        while request := channel.recv(MAX_MESSAGE_BYTES):
            _spawn(channel, request)


def exit_after(role: Callable[[], int]) -> NoReturn:
    """Run `role`, then exit with its result, without the clean-up of the process that forked."""
    code = 1
    try:
        code = role()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _spawn(channel: socket, request: bytes) -> None:
    """Fork a process by way of another, report it to the engine, then let it proceed."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    with ours:
        with theirs:
            try:
                between = os.fork()
            except OSError as error:
                channel.send(ERROR_PREFIX + str(error).encode())
                return
            if not between:
                ours.close()
                exit_after(lambda: _fork_again(channel, theirs, request))
        reply = ours.recv(MAX_MESSAGE_BYTES)
        os.waitpid(between, 0)
        channel.send(reply or ERROR_PREFIX + b"it exited during the fork")
        with suppress(ConnectionError):
            ours.send(PROCEED)


def _fork_again(channel: socket, parent: socket, request: bytes) -> int:
    """Fork the requested process; return the exit code, here and in the new process."""
    try:
        pid = os.fork()
    except OSError as error:
        parent.send(ERROR_PREFIX + str(error).encode())
        return 1
    if pid:
        parent.send(str(pid).encode())
        return 0
    channel.close()
    module, _, argument = request.decode().partition(SEPARATOR.decode())
    setproctitle(f"sluice {module.rpartition('.')[2]} {argument}")
    with parent:
        if parent.recv(len(PROCEED)) != PROCEED:
            return 1
    start: Callable[[str], int] = import_module(module).start
    return start(argument)
