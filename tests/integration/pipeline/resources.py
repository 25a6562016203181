"""What a process and a distributed engine hold: compared before and after stress."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil

#: Time in which workers report their last batches, and closed sockets give back descriptors, s.
_SETTLE_S = 10.0


def of_process(folder: Path) -> dict[str, Any]:
    """Return what this process holds, with what its runs have in `folder`."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {
        "descriptors": sorted(_targets()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": len(psutil.Process().children()),
        "files of runs": sorted(path.name for path in folder.rglob("*")),
        "mapped files of runs": sum(str(folder) in line for line in maps),
    }


def of_engine(engine: Any) -> dict[str, Any]:
    """Return what a distributed engine holds, once all workers are back and have no batch."""
    dispatcher, sessions = engine._dispatcher, engine._sessions
    in_flight, slots = dispatcher.in_flight, dispatcher._slots
    deadline = time.monotonic() + _SETTLE_S
    while not (in_flight.idle and engine._pool.all_ready) and time.monotonic() < deadline:
        engine._supervise()
        engine._poll(0.02)
    return {
        "free slots": sorted(slot for free in slots._free for slot in free),
        "batches in flight": len(in_flight),
        "events in flight": in_flight._events,
        "batches that workers have": sum(map(len, in_flight._assigned.values())),
        "batches between segments": sum(map(len, in_flight._waiting)),
        "workers with credit": sorted(in_flight._credit),
        "workers out of reach": sorted(in_flight._withheld),
        "sessions": sorted(sessions._processes),
        "identities": len(sessions._names),
        "pending swap": engine._swaps.epochs.pending,
        "meter blocks": len(engine._accounting._blocks),
        "batches counted as in flight": engine._accounting.snapshot().in_flight,
    }


def settled(before: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what this process holds, as soon as that is as `before`, or after a while."""
    deadline = time.monotonic() + _SETTLE_S
    while (now := of_process(folder)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def _targets() -> list[str]:
    """Return what each descriptor leads to, without numbers that differ from run to run."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}").split(":[")[0])
        except FileNotFoundError:  # that of the listing itself
            continue
    return [target for target in found if not target.startswith("/proc/")]
