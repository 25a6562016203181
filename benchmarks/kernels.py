"""Nanoseconds per event of each kernel and of plain NumPy doing the same, as JSON.

For the small nets, also the time of ONNX Runtime, and the share of the core's peak rate of
multiply-adds.

Run `python benchmarks/kernels.py`; it takes some seconds and needs an otherwise idle core.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from sluice.kernels import counting, hashing, histogram, layers, wafer
from sluice.kernels.compiler.simd import TILE
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.inference.session import open_session

N = 2048
BITS = 9
CALLS = 20
TRIALS = 15

Task = Callable[[], object]

_SHIFTS = np.array([21, 14, 7, 0], np.uint32)
_CODES = np.arange(128)
_TABLE = np.where(
    _CODES < 8, 8 * _CODES + 4, (17 + 2 * (_CODES & 7)) << (np.maximum(_CODES >> 3, 1) + 1)
).astype(np.float32)
_FIELD_BITS = np.arange(BITS - 1, -1, -1)


def ns_per_event(task: Task, events: int = N) -> float:
    """Return the median of several trials, after a warm-up call."""
    task()
    times_ns = []
    for _ in range(TRIALS):
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            task()
        times_ns.append((time.perf_counter_ns() - start) / (CALLS * events))
    return round(statistics.median(times_ns), 2)


def numpy_unpack(words: np.ndarray) -> np.ndarray:
    """Decode input words by a table."""
    charge: np.ndarray = _TABLE[(words[:, :, None] >> _SHIFTS) & 127].reshape(-1, 48)
    return charge


def numpy_encode(charge: np.ndarray) -> np.ndarray:
    """Encode charges into 7-bit codes."""
    kept = charge.astype(np.int64) >> 3
    exponent = np.maximum(np.frexp(kept.astype(np.float64))[1] - 3, 0)
    mantissa = (kept >> np.maximum(exponent - 1, 0)) & 7
    return np.where(exponent > 0, exponent << 3 | mantissa, kept).astype(np.uint8)


def numpy_pack_words(charge: np.ndarray, header: np.ndarray) -> np.ndarray:
    """Encode charges and pack them into words."""
    codes = numpy_encode(charge).reshape(-1, 12, 4).astype(np.uint32) << _SHIFTS
    words: np.ndarray = np.bitwise_or.reduce(codes, axis=2)
    words |= (header.astype(np.uint32) << 28)[:, None]
    return words


def numpy_normalise(charge: np.ndarray) -> tuple[np.ndarray, ...]:
    """Normalise and arrange charges."""
    total = charge.sum(axis=1, dtype=np.float64)
    status = np.where(np.isfinite(total), np.where((charge < 0).any(axis=1), 2, 0), 1)
    scale = np.ldexp(1.0, 1 - np.frexp(total)[1]) * (status == 0)
    image = (charge * scale[:, None].astype(np.float32))[:, wafer.ARRANGE_8X8] * wafer.MASK_8X8
    return image, total.astype(np.float32), status.astype(np.uint8)


def numpy_quantise_pack(latent: np.ndarray, charge_sum: np.ndarray) -> tuple[np.ndarray, ...]:
    """Quantise latents and module sums and pack them."""
    code = np.clip(np.floor(latent * 256 + 0.5), 0, 511).astype(np.int64)
    whole = charge_sum.astype(np.int64)
    exponent = np.maximum(np.frexp(whole.astype(np.float64))[1] - 4, 0)
    mantissa = (whole >> np.maximum(exponent - 1, 0)) & 15
    total = np.where(exponent > 0, exponent << 4 | mantissa, whole)
    fields = np.concatenate([total[:, None], code], axis=1)
    bits = (fields[:, :, None] >> _FIELD_BITS) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(len(latent), -1), axis=1)
    sum_q = np.where(total < 16, total, (16 + total % 16) << np.maximum(total // 16 - 1, 0))
    return packed, (code / 256).astype(np.float32), sum_q.astype(np.float32)


def numpy_unpack_latents(packed: np.ndarray) -> tuple[np.ndarray, ...]:
    """Unpack module sums and latents."""
    bits = np.unpackbits(packed, axis=1)[:, : 17 * BITS].reshape(-1, 17, BITS)
    fields = bits.astype(np.int64) @ (1 << _FIELD_BITS)
    total = fields[:, 0]
    sum_q = np.where(total < 16, total, (16 + total % 16) << np.maximum(total // 16 - 1, 0))
    return (fields[:, 1:] / 256).astype(np.float32), sum_q.astype(np.float32)


def numpy_record(counts: np.ndarray, values: np.ndarray) -> None:
    """Count durations by searching the edges."""
    buckets = np.searchsorted(histogram.edges() * 1e9, np.clip(values, 1e3, 6e10), side="right")
    counts += np.bincount(buckets, minlength=histogram.BUCKETS).astype(np.uint64)


def numpy_splitmix64(ids: np.ndarray, salt: int) -> np.ndarray:
    """Hash event numbers (the salt is not mixed)."""
    z = ids + np.uint64(salt)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def numpy_count_bits(decision: np.ndarray, counts: np.ndarray) -> None:
    """Count every bit of the decisions."""
    counts += ((decision[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).sum(
        axis=0, dtype=np.int64
    )


def wafer_tasks(rng: np.random.Generator) -> Iterator[tuple[str, Task, Task]]:
    """Yield name, kernel and NumPy of the wafer's kernels."""
    words = rng.integers(0, 2**32, (N, 12), dtype=np.uint32)
    header, code = np.full(N, 10, np.uint8), np.empty((N, 48), np.uint8)
    charge, image = np.empty((N, 48), np.float32), np.empty((N, 8, 8), np.float32)
    charge_sum, status = np.empty(N, np.float32), np.empty(N, np.uint8)
    latent = rng.uniform(-0.1, 2.1, (N, 16)).astype(np.float32)
    packed = np.empty((N, wafer.packed_bytes(BITS)), np.uint8)
    latent_q, sum_q = np.empty_like(latent), np.empty(N, np.float32)
    yield "unpack", lambda: wafer.unpack(words, charge), lambda: numpy_unpack(words)
    yield (
        "normalise",
        lambda: wafer.normalise(charge, image, charge_sum, status),
        lambda: numpy_normalise(charge),
    )
    yield (
        "quantise_pack",
        lambda: wafer.quantise_pack(latent, charge_sum, BITS, packed, latent_q, sum_q),
        lambda: numpy_quantise_pack(latent, charge_sum),
    )
    yield (
        "unpack_latents",
        lambda: wafer.unpack_latents(packed, BITS, latent_q, sum_q),
        lambda: numpy_unpack_latents(packed),
    )
    yield "encode_charge", lambda: wafer.encode_charge(charge, code), lambda: numpy_encode(charge)
    yield (
        "pack_words",
        lambda: wafer.pack_words(charge, header, words),
        lambda: numpy_pack_words(charge, header),
    )


def event_tasks(rng: np.random.Generator) -> Iterator[tuple[str, Task, Task]]:
    """Yield name, kernel and NumPy of the kernels that any event needs."""
    counts = np.zeros(histogram.BUCKETS, np.uint64)
    start = rng.integers(0, 10_000_000, N)
    distance = rng.uniform(0, 13, N).astype(np.float32)
    ids, out, yes = np.arange(N, dtype=np.uint64), np.empty(N, np.uint64), np.empty(N, bool)
    outcome, decision = rng.integers(0, 3, N).astype(np.uint8), ids & np.uint64(1023)
    outcomes, paths = np.zeros(8, np.int64), np.zeros(64, np.int64)
    yield (
        "record_ages",
        lambda: histogram.record_ages(counts, 10_000_000, start),
        lambda: numpy_record(counts, 10_000_000 - start),
    )
    yield (
        "record_scaled",
        lambda: histogram.record_scaled(counts, distance, 1e9),
        lambda: numpy_record(counts, distance * 1e9),
    )
    yield "splitmix64", lambda: hashing.splitmix64(ids, 7, out), lambda: numpy_splitmix64(ids, 7)
    yield (
        "sampled",
        lambda: hashing.sample_mask(ids, 7, 0.1, yes),
        lambda: numpy_splitmix64(ids, 7) < np.uint64(2**64 // 10),
    )
    yield (
        "count_outcomes",
        lambda: counting.count_outcomes(outcome, outcomes),
        lambda: outcomes.__iadd__(np.bincount(outcome, minlength=8)),
    )
    yield (
        "count_bits",
        lambda: counting.count_bits(decision, paths),
        lambda: numpy_count_bits(decision, paths),
    )


def peak_gmacs() -> float:
    """Return 1e9 multiply-adds a second of one core on a tile that stays in the first cache."""
    rows, outputs = 512, 64
    weight = np.ones((outputs, rows), np.float32)
    net = layers.compile_layers([layers.Layer(weight, np.zeros(outputs, np.float32), 0)])
    x, y = np.ones((TILE, 1), np.float32), np.empty((TILE, outputs), np.float32)
    # One input: nothing is copied in, the other rows of the tile are zeros.
    none, work = np.empty((TILE, 0), np.float32), layers.workspace(net)
    rest = (net.steps, net.sources, net.numbers, net.rows, work, y)
    ns = ns_per_event(lambda: layers.run(x, none, np.float32(1), False, *rest), TILE)
    return rows * outputs / ns


def net_tasks(rng: np.random.Generator) -> Iterator[tuple[str, int, Task, Task]]:
    """Yield name, multiply-adds an event, layers as one kernel, and ONNX Runtime, of each net."""
    for name in ("wafer-encoder-9b", "wafer-tagger"):
        model = find_model(name)
        inputs = {
            tensor.name: rng.random((N, *tensor.shape)).astype(np.float32)
            for tensor in model.manifest.inputs
        }
        if "image" in inputs:
            inputs["image"] *= wafer.MASK_8X8
        outputs = {tensor.name: tensor.column.empty(N) for tensor in model.manifest.outputs}
        ours = open_session(model, "layers", name)
        theirs = open_session(model, "onnxruntime:cpu", name)
        macs = sum(
            int(np.count_nonzero(array))
            for key, array in model.layers().items()
            if key.startswith("weight_")
        )
        yield (
            name,
            macs,
            partial(ours.infer, inputs, outputs),
            partial(theirs.infer, inputs, outputs),
        )


def measure_nets(rng: np.random.Generator) -> dict[str, object]:
    """Return the nets and how far they are from the machine's peak."""
    peak = peak_gmacs()
    nets = {}
    for name, macs, ours, theirs in net_tasks(rng):
        ns = ns_per_event(ours)
        nets[name] = {
            "ns_per_event": ns,
            "onnxruntime_ns_per_event": ns_per_event(theirs),
            "macs": macs,
            "share_of_peak": round(macs / ns / peak, 3),
        }
    return {"peak_gmacs_per_s": round(peak, 1), "nets": nets}


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(1)
    kernels = {
        name: {"ns_per_event": ns_per_event(ours), "numpy_ns_per_event": ns_per_event(plain)}
        for tasks in (wafer_tasks, event_tasks)
        for name, ours, plain in tasks(rng)
    }
    json.dump({"kernels": kernels, **measure_nets(rng)}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
