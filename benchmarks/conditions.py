"""Conditions of the machine that a measurement depends on."""

from __future__ import annotations

import os
from typing import Any

from sluice.pipeline.system.machine import processor


def benchmark_conditions() -> dict[str, Any]:
    """Return the conditions that a measurement depends on; call it before the measurement.

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
