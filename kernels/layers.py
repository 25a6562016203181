"""Small layered nets as one kernel: events in vector lanes, all activations in the first cache.

General runtimes compute layer after layer for the whole batch, so that every activation passes
through memory, and they multiply by every zero of a convolution that was written as a matrix. Here
a tile of events goes through all layers before the next begins, and zeros are left out. The order
of additions is fixed: the result for an event does not depend on the batch it is in.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import int64
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar
from sluice.kernels.compiler.simd import LANES, OUTPUTS, TILE, dot, from_tile, to_tile

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

RELU = 1
"""Activation: negative sums become 0."""
CUT = 2
"""Activation: fractions are cut off, toward zero; after `RELU` where both are given."""
SOFTMAX = 4
"""Activation of the last layer: exponentials over their sum."""


class Layer(NamedTuple):
    """One layer: ``activation(weight @ x + bias)``.

    Attributes
    ----------
    weight : float32 array, shape (outputs, inputs)
        Zeros cost nothing where the outputs that share inputs are zero together.
    bias : float32 array, shape (outputs,)
    activation : int
        `RELU`, `CUT`, `SOFTMAX` or a sum of them.
    """

    weight: F32
    bias: F32
    activation: int


class Program(NamedTuple):
    """Layers compiled for `run`; made by `compile_layers`.

    Attributes
    ----------
    steps : int64 array
        The number of layers; for each its groups of outputs and activation; for each group its
        inputs, where they begin in `sources`, where its numbers begin in `numbers`.
    sources : uint32 array
        Rows of the tile that a group reads.
    numbers : float32 array
        Biases and weights, `OUTPUTS` at a time.
    rows : int64 array
        The row of the tile in which each output of the last layer ends.
    width : int
        Rows of the two tiles that the kernel works in.
    """

    steps: I64
    sources: NDArray[np.uint32]
    numbers: F32
    rows: I64
    width: int


def compile_layers(layers: Sequence[Layer]) -> Program:
    """Return the program of some layers.

    Examples
    --------
    >>> net = compile_layers([Layer(np.eye(4, dtype="f4"), np.zeros(4, "f4"), RELU)])
    >>> net.sources.tolist()
    [0, 1, 2, 3]
    """
    steps, index, numbers = [len(layers)], list[int](), list[float]()
    rows = np.arange(layers[0].weight.shape[1])
    width = len(rows)
    for layer in layers:
        groups = _groups(layer.weight != 0)
        steps += [len(groups), layer.activation]
        after = np.zeros(len(layer.bias), np.int64)
        for place, (outputs, inputs) in enumerate(groups):
            after[outputs] = place * OUTPUTS + np.arange(len(outputs))
            steps += [len(inputs), len(index), len(numbers)]
            index += rows[inputs].tolist()
            block = np.zeros((1 + len(inputs), OUTPUTS), np.float32)
            block[0, : len(outputs)] = layer.bias[outputs]
            block[1:, : len(outputs)] = layer.weight[np.ix_(outputs, inputs)].T
            numbers += block.ravel().tolist()
        rows = after
        width = max(width, len(groups) * OUTPUTS)
    return Program(
        np.array(steps, np.int64),
        np.array(index, np.uint32),
        np.array(numbers, np.float32),
        # A whole vector of rows is read at a time.
        np.concatenate([rows, np.zeros(LANES, np.int64)]),
        -(-width // LANES) * LANES,
    )


def _groups(used: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Put outputs that read the same inputs together, `OUTPUTS` at most."""
    left = list(range(len(used)))
    found = []
    while left:
        group = [left.pop(0)]
        union = used[group[0]].copy()
        while left and len(group) < OUTPUTS:
            more = [int((used[output] & ~union).sum()) for output in left]
            less = [int((union & ~used[output]).sum()) for output in left]
            best = min(range(len(left)), key=lambda n: (more[n], less[n]))
            union |= used[left[best]]
            group.append(left.pop(best))
        # The kernel's loop runs at least once.
        found.append((group, np.flatnonzero(union).tolist() or [0]))
    return found


def workspace(program: Program) -> F32:
    """Return working memory for `run`; each thread needs its own."""
    return np.zeros((2, program.width * TILE), np.float32)


@device_function
def _exponential(x: np.float32) -> np.float32:
    # Cephes' range reduction and polynomial: 2 ulp, and no branch, so that loops vectorise.
    x = max(x, np.float32(-87.0))
    whole = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = x - whole * np.float32(0.693359375) - whole * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * rest + np.float32(1.3981999507e-3)
    p = p * rest + np.float32(8.3334519073e-3)
    p = p * rest + np.float32(4.1665795894e-2)
    p = p * rest + np.float32(1.6666665459e-1)
    p = p * rest + np.float32(5.0000001201e-1)
    p = p * rest * rest + rest + np.float32(1.0)
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    result: np.float32 = p * power
    return result


@device_function
def _softmax(tile: F32, rows: I64, outputs: int, work: F32) -> None:
    largest, total = work[:TILE], work[TILE : 2 * TILE]
    largest[:] = np.float32(-np.inf)
    total[:] = np.float32(0)
    for o in range(outputs):
        row = tile[rows[o] * TILE : rows[o] * TILE + TILE]
        for n in range(TILE):
            largest[n] = max(largest[n], row[n])
    for o in range(outputs):
        row = tile[rows[o] * TILE : rows[o] * TILE + TILE]
        for n in range(TILE):
            row[n] = _exponential(row[n] - largest[n])
            total[n] += row[n]
    for o in range(outputs):
        row = tile[rows[o] * TILE : rows[o] * TILE + TILE]
        for n in range(TILE):
            row[n] /= total[n]


@device_function
def _fill(
    x: F32, extra: F32, start: int, events: int, scale: np.float32, cut: bool, tile: F32
) -> None:
    inputs, more = x.shape[1], extra.shape[1]
    whole = inputs // LANES * LANES if events == TILE else 0
    flat = x.reshape(x.size)
    for lane in range(0, TILE if whole else 0, LANES):
        for i in range(0, whole, LANES):
            first = int64((start + lane) * inputs + i)
            to_tile(flat, first, int64(inputs), tile, int64(i), int64(lane), scale, cut)
    for i in range(whole, inputs):
        for n in range(events):
            scaled = x[start + n, i] * scale
            tile[i * TILE + n] = np.trunc(scaled) if cut else scaled
    for i in range(more):
        for n in range(events):
            tile[(inputs + i) * TILE + n] = extra[start + n, i]


@device_function
def _empty(tile: F32, rows: I64, start: int, events: int, y: F32) -> None:
    outputs = y.shape[1]
    whole = outputs // LANES * LANES if events == TILE else 0
    flat = y.reshape(y.size)
    for lane in range(0, TILE if whole else 0, LANES):
        for o in range(0, whole, LANES):
            first = int64((start + lane) * outputs + o)
            from_tile(tile, rows, int64(o), int64(lane), flat, first, int64(outputs))
    for o in range(whole, outputs):
        for n in range(events):
            y[start + n, o] = tile[rows[o] * TILE + n]


@kernel(
    (
        input_array("f4", 2),
        input_array("f4", 2),
        scalar("f4"),
        scalar("b1"),
        input_array("i8", 1),
        input_array("u4", 1),
        input_array("f4", 1),
        input_array("i8", 1),
        output_array("f4", 2),
        output_array("f4", 2),
    )
)
def run(
    x: F32,
    extra: F32,
    scale: np.float32,
    cut: bool,
    steps: I64,
    index: NDArray[np.uint32],
    numbers: F32,
    rows: I64,
    work: F32,
    y: F32,
) -> None:
    """Run N events through a net.

    Parameters
    ----------
    x : float32 array, shape (N, I)
        Inputs.
    extra : float32 array, shape (N, J)
        More inputs, which follow those of `x`; J may be 0.
    scale : float32
        Multiplies `x` first.
    cut : bool
        Whether the scaled `x` loses its fractions, toward zero.
    steps, index, numbers, rows
        The net as `compile_layers` returns it.
    work : float32 array
        Working memory that `workspace` allocated.
    y : float32 array, shape (N, O)
        Output.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    events, outputs = y.shape
    if x.shape[0] != events or extra.shape[0] != events or rows.size != outputs + LANES:
        raise ValueError("run: expected x (N, I), extra (N, J) and y (N, O) of this net")
    width = work.shape[1] // TILE
    if x.shape[1] + extra.shape[1] > width or work.shape[0] != 2:
        raise ValueError("run: expected working memory of this net")
    for start in range(0, events, TILE):
        part = min(TILE, events - start)
        source, target = work[0], work[1]
        _fill(x, extra, start, part, scale, cut, source)
        at = 1
        activation = 0
        for _ in range(steps[0]):
            groups, activation = steps[at], steps[at + 1]
            at += 2
            for group in range(groups):
                dot(
                    source, index, steps[at + 1], steps[at], numbers, steps[at + 2], target,
                    int64(group * OUTPUTS), activation & RELU != 0, activation & CUT != 0,
                )  # fmt: skip
                at += 3
            source, target = target, source
        if activation & SOFTMAX:
            _softmax(source, rows, outputs, target)
        _empty(source, rows, start, part, y)
