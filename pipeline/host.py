"""The machine at hand, as reports and records name it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def conditions() -> dict[str, Any]:
    """Return what a measurement owes to the machine: ask before it begins.

    Returns
    -------
    dict
        ``processor``; ``cores`` that this process may use; ``load_before``: processes that ran or
        wanted to, the mean of a minute.
    """
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
    }
