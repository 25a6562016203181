"""Kernels for GPUs compile to machine code that spills nothing; the page about them is true."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "docs" / "gpu-kernels.md"

pytestmark = pytest.mark.timeout(300)


def _digest() -> str:
    """Return a digest of all that the machine code depends on."""
    digest = hashlib.sha256()
    for name in ("numba", "numba-cuda", "nvidia-cuda-nvcc"):
        digest.update(f"{name} {version(name)}\n".encode())
    for path in (*sorted((_ROOT / "kernels").rglob("*.py")), _ROOT / "benchmarks/cuda_kernels.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def made(
    once: Callable[[str, Callable[[Path], None]], Path],
) -> tuple[list[dict[str, Any]], str]:
    """What the benchmark tells of all kernels, and the page that it writes.

    It is kept in ``build`` for the next time that neither kernels nor compilers have changed.
    """
    kept = _ROOT / "build" / "compiled-kernels" / _digest()

    def compile_all(folder: Path) -> None:
        table, page = folder / "kernels.json", folder / "page.md"
        environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
        command = [
            sys.executable, "benchmarks/cuda_kernels.py", "--json", table, "--markdown", page
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir(parents=True)
        shutil.copytree(folder, kept.with_suffix(".new"))
        kept.with_suffix(".new").rename(kept)

    folder = kept if kept.is_dir() else once("compiled-kernels", compile_all)
    return json.loads((folder / "kernels.json").read_text()), (folder / "page.md").read_text()


def test_nothing_is_spilled_and_no_product_is_fused(
    made: tuple[list[dict[str, Any]], str],
) -> None:
    for row in made[0]:
        assert set(row["code"]) == {"sm_80", "sm_90"}
        for architecture, code in row["code"].items():
            where = f"{row['kernel']} on {architecture}"
            assert code["registers"] > 0, where
            assert (code["spilled"], code["stack"], code["fused"]) == (0, 0, 0), where
            # A block has no more without asking for it.
            assert code["shared"] <= 48 * 1024, where


def test_each_twin_is_compiled(made: tuple[list[dict[str, Any]], str]) -> None:
    names = {row["kernel"].partition(",")[0] for row in made[0]}
    assert names >= {
        *("unpack", "normalise", "quantise_pack", "unpack_latents", "emd", "emd_pairs", "pad"),
        *("best_choice", "super_trigger_cell", "threshold", "repeater", "images", "unpack_strips"),
    }


def test_the_page_says_what_the_compiler_says(
    made: tuple[list[dict[str, Any]], str],
) -> None:
    assert made[1] == _PAGE.read_text(), (
        "python benchmarks/cuda_kernels.py --markdown docs/gpu-kernels.md"
    )


def test_the_simulator_is_recognised() -> None:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "benchmarks/cuda_kernels.py"]
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "unset NUMBA_ENABLE_CUDASIM" in done.stderr
