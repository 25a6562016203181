"""The runtime alone simulates and replays: nothing that only training needs is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sluice.exporters.families import names

#: What the extras `train`, `root` and `hdf5` bring, but for the generators of the jets.
_TRAINING = ("torch", "onnx", "onnxscript", "scipy", "ot", "matplotlib", "mplhep", "h5py", "uproot")
_RUN = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["sluice", "simulate", {family!r}, "--events", "300"]
sys.argv += ["--processes", "1", "--out", {out!r}]
from sluice.pipeline.cli import main
main()
"""


@pytest.mark.parametrize("family", sorted(set(names()) - {"jets"}))
def test_a_family_is_simulated_without_what_trains_it(family, tmp_path):
    script = _RUN.format(absent=_TRAINING, family=family, out=str(tmp_path / "events.arrows"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "events.arrows").stat().st_size > 1000
