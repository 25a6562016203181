"""How each kind of fault is injected. Each returns what really happened, for the report."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from .garbage import garbage
from .stand import TAGGERS, Stand

#: How long a process may take to be there, and its successor after its exit.
_PRESENT_S = _KILLED_S = 30.0
_NONE = "there was no such process"

Detail = dict[str, Any]


def kill_worker(stand: Stand, detail: Detail) -> Detail:
    """Kill a worker; another takes its batches."""
    return _kill(stand, detail["worker"])


def kill_sink(stand: Stand, _: Detail) -> Detail:
    """Kill the sink; its successor goes on behind the last whole batch."""
    return _kill(stand, "sink")


def kill_fork_server(stand: Stand, _: Detail) -> Detail:
    """Kill what processes come from; nobody else ends, and another takes its place."""
    return _kill(stand, "fork-server")


def stall_sink(stand: Stand, detail: Detail) -> Detail:
    """Stop the sink for a while: nothing is committed, the window fills, the backlog grows."""
    return _stall(stand, "sink", detail["seconds"])


def stall_worker(stand: Stand, detail: Detail) -> Detail:
    """Stop a worker for a while: its batches wait."""
    return _stall(stand, "compute-0", detail["seconds"])


def stall_fork_server(stand: Stand, detail: Detail) -> Detail:
    """Stop for a while what processes come from: the run goes on with those that it has."""
    return _stall(stand, "fork-server", detail["seconds"])


def stall_engine(stand: Stand, detail: Detail) -> Detail:
    """Stop the engine's own process for a while: front ends wait, workers and sink idle."""
    return _stall(stand, "engine", detail["seconds"])


def kill_remote_worker(stand: Stand, _: Detail) -> Detail:
    """Kill the remote worker; another one of the same name joins."""
    return stand.restart_remote_worker(signal.SIGKILL)


def stall_remote_worker(stand: Stand, detail: Detail) -> Detail:
    """Stop the remote worker, maybe for longer than the timeout, then let it go on.

    What it still sends belongs to batches that others have processed meanwhile.
    """
    pid = stand.remote_worker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(detail["seconds"])
    finally:
        os.kill(pid, signal.SIGCONT)
    return {"pid": pid}


def kill_replay(stand: Stand, _: Detail) -> Detail:
    """Kill the engine of the replay and resume its recording."""
    return stand.replay.kill_and_resume()


def full_disk(stand: Stand, detail: Detail) -> Detail:
    """Let the sink's file grow no further for a while, as if the disk were full."""
    sink = _find(stand, "sink")
    if sink is None:
        return {"skipped": _NONE}
    _, hard = sink.rlimit(psutil.RLIMIT_FSIZE)
    size = stand.parts()[-1].stat().st_size
    sink.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    time.sleep(detail["seconds"])
    sink.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
    return {"bytes": size}


def burst(stand: Stand, detail: Detail) -> Detail:
    """Send ten times as much for a while, from another front end."""
    stand.send(stand.rate_hz * (detail["times"] - 1), detail["seconds"])
    time.sleep(detail["seconds"])
    return {}


def pause(stand: Stand, detail: Detail) -> Detail:
    """Pause the run and resume it."""
    paused = stand.control("pause")
    time.sleep(detail["seconds"])
    deadline = time.monotonic() + _PRESENT_S
    while (resumed := stand.control("resume")) != "done" and time.monotonic() < deadline:
        time.sleep(0.5)  # something else may hold the run for a moment yet
    return {"pause": paused, "resume": resumed}


def swap(stand: Stand, _: Detail) -> Detail:
    """Swap the tagger for the other one, while the run goes on."""
    now = json.loads(stand.page("/status")[1])["report"]["models"]["tag"]["name"]
    other = next(model for model in TAGGERS if model != now)
    return {"from": now, "to": other, "said": stand.control("swap", "tag", other)}


FAULTS: dict[str, Callable[[Stand, Detail], Detail]] = {
    "kill worker": kill_worker,
    "kill sink": kill_sink,
    "kill fork server": kill_fork_server,
    "stall sink": stall_sink,
    "stall worker": stall_worker,
    "stall fork server": stall_fork_server,
    "stall engine": stall_engine,
    "kill remote worker": kill_remote_worker,
    "stall remote worker": stall_remote_worker,
    "kill replay": kill_replay,
    "full disk": full_disk,
    "burst": burst,
    "pause": pause,
    "swap": swap,
    "garbage": garbage,
}


def _find(stand: Stand, name: str) -> psutil.Process | None:
    """Return a process of the run; wait for it where it is about to be started again."""
    deadline = time.monotonic() + _PRESENT_S
    while (process := stand.processes().get(name)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def _kill(stand: Stand, name: str) -> Detail:
    process = _find(stand, name)
    if process is None:
        return {"skipped": _NONE}
    process.kill()
    begun = time.monotonic()
    while time.monotonic() - begun < _KILLED_S:
        successor = stand.processes().get(name)
        if successor is not None and successor.pid != process.pid:
            return {"pid": process.pid, "successor_after_s": round(time.monotonic() - begun, 2)}
        time.sleep(0.05)
    return {"pid": process.pid, "skipped": f"no successor in {_KILLED_S:g} s"}


def _stall(stand: Stand, name: str, seconds: float) -> Detail:
    process = _find(stand, name)
    if process is None:
        return {"skipped": _NONE}
    os.kill(process.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    return {"pid": process.pid}
