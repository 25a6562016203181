"""Runs pytest again and again in forks of a process that has imported the libraries already.

It reads requests as lines of JSON and answers each with one. Run in a lane's environment, from its
root; its arguments are the libraries.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .recorder import Recorder

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: Exit status of a run that took too long.
TIMED_OUT = -1


def main() -> None:
    """Answer requests until standard input ends, or the process that reads the answers."""
    system = ctypes.CDLL(None)
    system.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    system.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _prepare()
    # A short name: tests bind sockets in their folders.
    with TemporaryDirectory(prefix="lane-") as folder:
        try:
            for line in sys.stdin:
                sys.stdout.write(json.dumps(_answer(json.loads(line), folder)) + "\n")
                sys.stdout.flush()
        finally:
            _end_descendants()


def _prepare() -> None:
    """Do once what each run would do again."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    if "numba" in sys.modules:
        one_more = sys.modules["numba"].njit(lambda number: number + 1)
        one_more(1)  # loads numba's extensions, and LLVM
    gc.collect()
    gc.freeze()  # runs neither copy nor search these objects


def _answer(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run pytest with `arguments` for `timeout` seconds at most; its output goes to `output`."""
    began = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _run(request, folder)
    status = _wait(child, request["timeout"])
    _end_descendants()
    return {"status": status, "seconds": time.monotonic() - began}


def _run(request: dict[str, Any], folder: str) -> None:
    """Be the process of one run: never returns."""
    status = 3
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(request["environment"])
        if "numba" in sys.modules:
            sys.modules["numba.core.config"].reload_config()
        arguments = [*request["arguments"], "--basetemp", f"{folder}/t"]
        plugins = (
            [Recorder(Path(request["record"]), lines=request["lines"])] if request["record"] else []
        )
        status = int(importlib.import_module("pytest").main(arguments, plugins))
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, timeout_s: float) -> int:
    """Return the exit status of a child, after that time at the latest."""
    descriptor = os.pidfd_open(child)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    in_time = bool(poller.poll(timeout_s * 1000))
    os.close(descriptor)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if in_time else TIMED_OUT


def _end_descendants() -> None:
    """End what a run left behind: as their subreaper this process is their parent now."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
            os.waitpid(int(pid), 0)


if __name__ == "__main__":
    main()
