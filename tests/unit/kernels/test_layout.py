"""Each module for GPUs stands in the folder of the CPU's kernels that it repeats."""

from __future__ import annotations

from pathlib import Path

from sluice.kernels import ragged

KERNELS = Path(ragged.__file__).parent
#: What only GPUs need: launching, instructions of theirs, the simulator.
ONLY_GPU = {
    "launch", "simulator", "intrinsics", "intrinsics_device", "intrinsics_simulated",
    "sorting_network", "emd/shortest_paths", "wafer/codec_best_choice", "wafer/codec_values",
}  # fmt: skip


def modules(folder: Path) -> set[str]:
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py")}


def test_gpu_modules_mirror_those_of_the_cpu():
    on_gpu = modules(KERNELS / "cuda")
    assert on_gpu >= ONLY_GPU
    assert on_gpu - ONLY_GPU <= modules(KERNELS) - {f"cuda/{name}" for name in on_gpu}
