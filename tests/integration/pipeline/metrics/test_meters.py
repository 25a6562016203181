"""Meters in a file that another process writes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.totals import monitor_totals, stage_totals


def test_another_process_writes(tmp_path):
    path = tmp_path / "w.meters"
    script = (
        "import sys, numpy as np; from pathlib import Path;"
        "from sluice.pipeline.metrics.meters import MeterBlock;"
        "b = MeterBlock(['a', 'b'], ['m'], Path(sys.argv[1]));"
        "[b.record_stages(7, np.array([0, 1000, 3000, 9000], np.int64)) for _ in range(5)];"
        "b.monitor_meters()[0].record(np.array([0.5, 1.5], np.float32));"
        "b.monitor_meters()[0].drop(3)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)
    reader = MeterBlock(["a", "b"], ["m"], path, create=False)
    assert stage_totals([reader])["b"].events == 35
    seen = monitor_totals([reader])["m"]
    assert (seen.n, seen.dropped) == (2, 3)
    assert seen.sum == pytest.approx(2.0)
