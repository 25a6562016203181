"""The latency benchmark measures real processes, and says what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SLUICE = Path(sys.executable).with_name("sluice")


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_rates_in_json(tmp_path, engine):
    done = subprocess.run(
        [SLUICE, "bench", "latency", "--rate", "400", "--rate", "200", "--seconds", "1",
         "--engine", engine, "--json"],
        capture_output=True, timeout=220, cwd=tmp_path, check=True,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert list(result["engines"]) == [engine]
    found = result["engines"][engine]
    assert [point["offered_hz"] for point in found["points"]] == [200, 400]
    for point in found["points"]:
        assert point["offered"] == point["offered_hz"]
        assert point["lost"] == point["shed"] == point["dropped"] == 0
        assert point["closed"] is True
        times = [point["latency_s"][key] for key in ("p50", "p99", "p999", "max")]
        assert times == sorted(times)
        assert 0 < times[0] < 1
        ingest = point["ingest_latency_s"]
        assert all(0 < ingest[key] <= point["latency_s"][key] * 1.04 for key in ingest)
        assert point["events_a_batch"] >= 1
    assert found["knee_hz"] in (0, 200, 400)
    assert result["conditions"]["latency_budget_s"] == 0.005
    assert not list(tmp_path.iterdir())
