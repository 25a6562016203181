"""What is said of the machine where its tools say nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.system import machine


def test_without_a_name_the_architecture(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor : 0\n")
    assert machine.processor() in (platform.processor(), platform.machine())


def test_conditions_count_the_cores_that_may_be_used():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert benchmark_conditions()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)
