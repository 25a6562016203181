"""Does anything grow? Memory, descriptors, threads of each process, and shared memory."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from .stand import Stand

MB = 1e6
#: A process that ran for less than this, from when it had settled, says nothing.
_MIN_DURATION_S = 40.0
#: A process has settled when it first has this much of its median memory: before, it starts.
_SETTLED = 0.9
#: What may come in late: arrays touched for the first time by a burst, a connection not yet gone.
ALLOWED = {"rss_mb": 24.0, "fds": 6.0, "threads": 2.0, "shm_mb": 4.0}


class Watch:
    """Samples the run's processes from a thread, every `period_s` seconds."""

    def __init__(self, stand: Stand, period_s: float) -> None:
        self._stand = stand
        self._period_s = period_s
        self._done = threading.Event()
        self._started = time.monotonic()
        #: (name, pid) to rows of seconds, RSS in MB, open descriptors, threads.
        self.samples: dict[tuple[str, int], list[tuple[float, ...]]] = {}
        self.shm: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._loop, name="soak-watch")
        self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join()

    def report(self) -> dict[str, Any]:
        """Return growth of each process that ran long enough, and of shared memory."""
        processes = []
        for (name, pid), rows in self.samples.items():
            own: dict[str, Any] = {"process": name, "pid": pid, "from_s": round(rows[0][0], 1),
                                    "to_s": round(rows[-1][0], 1)}  # fmt: skip
            settled = _settled(rows)
            if settled[-1][0] - settled[0][0] >= _MIN_DURATION_S:
                for column, key in enumerate(("rss_mb", "fds", "threads"), 1):
                    own[key] = _ends([row[column] for row in settled])
            processes.append(own)
        return {"processes": processes, "shm_mb": _ends([size for _, size in self.shm])}

    def _loop(self) -> None:
        while not self._done.wait(self._period_s):
            now = time.monotonic() - self._started
            for name, process in self._stand.processes().items():
                try:
                    with process.oneshot():
                        row = (now, process.memory_info().rss / MB, float(process.num_fds()),
                               float(process.num_threads()))  # fmt: skip
                except psutil.Error:
                    continue
                self.samples.setdefault((name, process.pid), []).append(row)
            self.shm.append((now, _shared_memory(self._stand.runtime)))


def grown(report: dict[str, Any]) -> list[str]:
    """Return what has grown beyond what is allowed, in words."""
    found = [
        f"{own['process']} ({own['pid']}): {key} from {own[key][0]:.1f} to {own[key][1]:.1f}"
        for own in report["processes"]
        for key in ("rss_mb", "fds", "threads")
        if key in own and own[key][1] - own[key][0] > ALLOWED[key]
    ]
    first, last = report["shm_mb"]
    if last - first > ALLOWED["shm_mb"]:
        found.append(f"shared memory: from {first:.1f} to {last:.1f} MB")
    return found


def _settled(rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return the samples from when the process was up, however busy the machine was."""
    settled = _SETTLED * median(row[1] for row in rows)
    return rows[next(i for i, row in enumerate(rows) if row[1] >= settled) :]


def _ends(values: list[float]) -> list[float]:
    """Return the medians of the second fifth and of the last fifth of a time."""
    fifth = max(1, len(values) // 5)
    early, late = values[fifth : 2 * fifth] or values, values[-fifth:]
    return [round(median(early), 2), round(median(late), 2)]


def _shared_memory(runtime: Path) -> float:
    """Return the MB that the run has in its folder in shared memory."""
    total = 0
    for path in runtime.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total / MB
