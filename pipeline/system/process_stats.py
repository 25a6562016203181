"""Resources of processes from ``/proc``: memory, descriptors, threads."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

_PROC = Path("/proc")


class Usage(Struct, frozen=True):
    """Resources of one process.

    Attributes
    ----------
    rss_mb
        Resident memory including shared pages, 10^6 bytes.
    fds
        Number of open descriptors.
    threads
        Number of threads.
    """

    rss_mb: float
    fds: int
    threads: int


def usage(pid: int) -> Usage | None:
    """Return the resources of a process; None if it has ended or belongs to another user.

    Examples
    --------
    >>> usage(os.getpid()).threads >= 1
    True
    """
    folder = _PROC / str(pid)
    try:
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if line
        )
        fds = len(os.listdir(folder / "fd"))
    except (OSError, ValueError):
        return None
    if "VmRSS" not in status:  # a zombie has no memory
        return None
    return Usage(int(status["VmRSS"].split()[0]) * 1024 / 1e6, fds, int(status["Threads"]))


def process_tree(engine: int) -> dict[str, int]:
    """Return name to process id, of an engine and of the processes that it has started."""
    found = {"engine": engine}
    for folder in _PROC.glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            words = (folder / "cmdline").read_text().rstrip("\0").split()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent == engine and words[:1] == ["sluice"]:  # titles set by the fork server
            found[Path(words[-1]).stem] = int(folder.name)
    return found
