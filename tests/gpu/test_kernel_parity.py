"""Kernels for GPUs give what the CPU's give, over several blocks, and refuse what they refuse."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sluice.kernels import ragged, wafer
from sluice.kernels.antihydrogen import strips
from sluice.kernels.emd import exact as emds
from sluice.kernels.wafer import codecs

launching = importlib.import_module("sluice.kernels.cuda.launch")
on_gpu = importlib.import_module("sluice.kernels.cuda.wafer")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

#: Less than a block, a block, and blocks of which the last is not full.
ROWS = (0, 1, 7, 8, 21)


def run(kernel: Any, *arguments: Any) -> None:
    """Call a kernel with arrays of the host."""
    if launching.SIMULATED:
        kernel(*arguments)
        return
    from numba import cuda

    there = [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in arguments]
    kernel(*there)
    for here, array in zip(arguments, there, strict=True):
        if isinstance(here, np.ndarray) and here.size and here.flags.writeable:
            array.copy_to_host(here)


def assert_same(name: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...], modules: Any) -> None:
    expected, got = [[array.copy() for array in outputs] for _ in "ab"]
    for module, made in zip(modules, (expected, got), strict=True):
        function = getattr(module, name)
        if module.__name__.startswith("sluice.kernels.cuda"):
            run(function, *inputs, *made)
        else:
            function(*inputs, *made)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(other, one)


def twins(module: Any) -> tuple[Any, Any]:
    name = module.__name__.removeprefix("sluice.kernels.")
    return module, importlib.import_module(f"sluice.kernels.cuda.{name}")


WAFER = twins(wafer)


@pytest.mark.parametrize("rows", ROWS)
def test_unpack(rows: int) -> None:
    words = np.random.default_rng(rows).integers(0, 1 << 32, (rows, 12), dtype=np.uint32)
    assert_same("unpack", (words,), (np.full((rows, 48), -1, np.float32),), WAFER)


@pytest.mark.parametrize("rows", ROWS)
def test_normalise(rows: int) -> None:
    charge = np.random.default_rng(rows).gamma(0.3, 900, (rows, 48)).astype(np.float32)
    for row, bad in enumerate((np.nan, np.inf, -1.0, -0.0, 3e38)[:rows]):
        charge[3 * row % rows, 7 * row] = bad
    outputs = (
        np.full((rows, 8, 8), 9, np.float32),
        np.full(rows, 9, np.float32),
        np.full(rows, 9, np.uint8),
    )
    assert_same("normalise", (charge,), outputs, WAFER)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bits", [1, 3, 9, 16])
def test_quantise_pack(rows: int, bits: int) -> None:
    rng = np.random.default_rng(rows)
    latent = rng.normal(0.5, 0.8, (rows, 16)).astype(np.float32)
    latent[: rows // 2, :3] = np.nan, np.inf, -np.inf
    charge_sum = rng.gamma(0.3, 1e5, rows).astype(np.float32)
    outputs = (
        np.full((rows, wafer.packed_bytes(bits)), 0xAA, np.uint8),
        np.full((rows, 16), 9, np.float32),
        np.full(rows, 9, np.float32),
    )
    assert_same("quantise_pack", (latent, charge_sum, bits), outputs, WAFER)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bits", [1, 3, 9, 16])
def test_unpack_latents(rows: int, bits: int) -> None:
    size = wafer.packed_bytes(bits)
    packed = np.random.default_rng(rows).integers(0, 256, (rows, size), dtype=np.uint8)
    outputs = np.full((rows, 16), 9, np.float32), np.full(rows, 9, np.float32)
    assert_same("unpack_latents", (packed, bits), outputs, WAFER)


CODECS = {
    "best_choice": (9, True, 3),
    "threshold": (47.25, True, -1),
    "super_trigger_cell": (codecs.GROUPS_OF_16, False, 3),
    "repeater": (1,),
}


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("name", CODECS)
def test_codecs(name: str, rows: int) -> None:
    # Of whole charges sums are exact, in whatever order they are added.
    charge = np.random.default_rng(rows).integers(0, 900, (rows, 48)).astype(np.float32)
    outputs: tuple[Any, ...] = (np.full((rows, 48), 9, np.float32),)
    if name == "threshold":
        outputs = (*outputs, np.full(rows, 9))
    assert_same(name, (charge, *CODECS[name]), outputs, twins(codecs))


@pytest.mark.parametrize("events", [0, 1, 3])
def test_strips(events: int) -> None:
    packed = np.random.default_rng(events).integers(0, 256, (events, 179), dtype=np.uint8)
    bits = np.full((events, 1430), 9, np.uint8)
    assert_same("unpack_strips", (packed,), (bits,), twins(strips))
    outputs = (
        np.full((events, 2, strips.Z), 9, np.float32),
        np.full((events, 2, strips.PHI), 9, np.float32),
        np.full(events, 9, np.uint8),
        np.full(events, 9, np.uint8),
    )
    assert_same("to_images", (packed,), outputs, twins(strips))


@pytest.mark.parametrize("item", [np.float32, np.uint8])
def test_pad(item: type) -> None:
    values = np.arange(24).astype(item).reshape(12, 2)
    offsets, rows = np.array([0, 3, 3, 8, 12]), np.array([2, 0, 1, 3, 2])
    flat = [array.reshape(-1).view(np.uint8) for array in (values, np.full(2, 7, item))]
    outputs = np.full((5, 4 * len(flat[1])), 9, np.uint8), np.full(5, 9)
    assert_same("pad", (flat[0], offsets, rows, flat[1]), outputs, twins(ragged))


def test_lists_that_are_none_get_a_length_of_minus_one() -> None:
    values, filler = np.arange(5, dtype=np.uint8), np.zeros(1, np.uint8)
    offsets, rows = np.array([0, 3, 2, 9]), np.array([-1, 0, 1, 2, 3])
    out, lengths = np.full((5, 4), 9, np.uint8), np.zeros(5, np.int64)
    run(twins(ragged)[1].pad, values, offsets, rows, filler, out, lengths)
    assert lengths.tolist() == [-1, 3, -1, -1, -1]
    assert out[1].tolist() == [0, 1, 2, 0]
    assert not out[[0, 2, 3, 4]].any()


def test_emd_of_wafers() -> None:
    rng = np.random.default_rng(8)
    charge = rng.gamma(0.3, 900, (5, 48)).astype(np.float32)
    other = (charge * (rng.random((5, 48)) < 0.3)).astype(np.float32)
    charge[1], other[2, 4], other[3, 5], charge[4] = other[1], -1, np.nan, 0
    got = np.zeros(5)
    run(twins(emds)[1].emd_pairs, charge, other, np.array(wafer.DISTANCE), got)
    expected = emds.emd_pairs(charge, other)
    assert np.isnan(expected).tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_emd_of_masses_that_are_none() -> None:
    p = np.array([[1.0, 0], [2, 1], [0, 0], [1, -1], [np.inf, 0], [3, 2], [1, 1]])
    q = np.array([[0, 1.0], [1, 1], [0, 0], [0, 0], [0, np.inf], [2, 3 + 1e-9], [1, 1]])
    got, expected = np.zeros(7), np.zeros(7)
    distance = np.array([[0.0, 2.0], [2.0, 0.0]])
    run(twins(emds)[1].emd, p, q, distance, got)
    emds.emd(p, q, distance, expected)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    run(twins(emds)[1].emd, p, q, np.full((2, 2), np.nan), got)
    assert np.isnan(got[[0, 5]]).all()


def test_other_dtypes_shapes_and_layouts_are_refused() -> None:
    words, charge = np.zeros((2, 12), np.uint32), np.zeros((2, 48), np.float32)
    with pytest.raises(TypeError, match="unpack: words: expected dtype u4"):
        run(on_gpu.unpack, words.astype(np.int32), charge)
    with pytest.raises(ValueError, match=r"unpack: charge: expected shape \(2, 48\)"):
        run(on_gpu.unpack, words, charge[:1])
    with pytest.raises(TypeError, match="C-contiguous"):
        run(on_gpu.unpack, words, np.zeros((48, 2), np.float32).T)
    with pytest.raises(TypeError, match="expected a device array"):
        on_gpu.unpack(None, charge)
    with pytest.raises(ValueError, match="bits must be 1 to 16"):
        on_gpu.quantise_pack(None, None, 17, None, None, None)


class Elsewhere:
    """Memory of somebody else, as the runtime of a graph hands it out."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self.__cuda_array_interface__ = dict(array.__array_interface__)


@pytest.mark.skipif(not launching.SIMULATED, reason="only the simulator's memory is the host's")
def test_whatever_has_the_interface_is_a_device_array() -> None:
    words = np.arange(24, dtype=np.uint32).reshape(2, 12)
    charge, expected = np.zeros((2, 48), np.float32), np.zeros((2, 48), np.float32)
    on_gpu.unpack(Elsewhere(words), Elsewhere(charge))
    wafer.unpack(words, expected)
    np.testing.assert_array_equal(charge, expected)


SCRIPT = """
import sys
import sluice.pipeline.cli.main, sluice.pipeline.service.daemon, sluice.pipeline.detectors.wafer
import sluice.kernels.cuda, sluice.kernels.wafer, sluice.kernels.emd.exact
loaded = [name for name in sys.modules if name.split(".")[:2] == ["numba", "cuda"]]
assert not loaded, loaded
"""


def test_the_cpu_s_path_loads_nothing_of_this() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
