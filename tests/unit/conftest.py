"""Unit tests start no process: what does is an integration test."""

from __future__ import annotations

import multiprocessing.process
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Programs that a unit test may start nevertheless, each with the reason.
_ALLOWED = {
    "gcc": "makes the shared libraries, some with needs that are absent, which the tests load",
    "uname": "Python's own `platform.processor`, where the system does not name the processor",
    **dict.fromkeys(
        ("ldconfig", "ld", "objdump"),
        "Python's own `ctypes.util.find_library`, which packages call when they are imported",
    ),
}
_STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_started: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what the test that runs now starts; an audit hook cannot be taken back."""
    if event not in _STARTS or _started is None:
        return
    command = arguments[1] if event == "subprocess.Popen" else None
    if command and Path(os.fsdecode(command[0])).name in _ALLOWED:
        return
    _started.append(f"{event} {command or arguments!r}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that starts a process, be it by fork, as a program, or by multiprocessing."""
    global _started
    start = multiprocessing.process.BaseProcess.start

    def watched(process: multiprocessing.process.BaseProcess) -> None:
        # The method "spawn" raises no event.
        _watch("os.fork", ("multiprocessing", process.name))
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", watched)
    _started = []
    yield
    started, _started = _started, None
    assert not started, f"a unit test starts no process: {started}"
