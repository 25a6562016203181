"""Physics of one wafer, compiled: electromagnetic and hadronic showers, and pile-up.

Every event owns a counter-based random stream keyed on ``(seed, event number)``, so the same event
comes out whatever the size of the chunk it was asked for in.

References
----------
G. Grindhammer and S. Peters, arXiv:hep-ex/0001020: a shower's radial profile as core and tail.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.simulation.random_streams import TURN, begin, normal, uniform
from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

ELECTROMAGNETIC, HADRONIC, PILEUP = 0, 1, 2

# Probabilities of the first two classes; the rest is pile-up, most of a trigger's input.
P_ELECTROMAGNETIC, P_HADRONIC = 0.25, 0.25
CHARGE_MAX = 2_031_616  # the largest charge a 7-bit code stands for


@device_function
def _lognormal(state: Any, median: float, sigma: float) -> Any:
    return median * math.exp(sigma * normal(state))


@device_function
def _cell_at(x: float, y: float, grid: Any, frame: Any) -> Any:
    column, row = int((x - frame[0]) * frame[2]), int((y - frame[1]) * frame[2])
    if x < frame[0] or y < frame[1] or column >= grid.shape[0] or row >= grid.shape[1]:
        return -1
    return grid[column, row]


@device_function
def _point(state: Any, grid: Any, frame: Any) -> Any:
    while True:
        x = frame[0] + uniform(state) * grid.shape[0] / frame[2]
        y = frame[1] + uniform(state) * grid.shape[1] / frame[2]
        if _cell_at(x, y, grid, frame) >= 0:
            return x, y


@device_function
def _spray(
    state: Any, q: Any, x: float, y: float, charge: float, n: int, radius: float, g: Any, f: Any
) -> None:
    # Radial density 2 r R^2 / (r^2 + R^2)^2, inverted; spots off the wafer are its neighbours'.
    for _ in range(n):
        u = uniform(state) * 0.999
        r = radius * math.sqrt(u / (1.0 - u))
        phi = TURN * uniform(state)
        cell = _cell_at(x + r * math.cos(phi), y + r * math.sin(phi), g, f)
        if cell >= 0:
            q[cell] -= charge / n * math.log(uniform(state))


@device_function
def _electromagnetic(state: Any, q: Any, grid: Any, frame: Any) -> None:
    energy = min(_lognormal(state, 1100.0, 0.9), 9000.0)
    x, y = _point(state, grid, frame)
    core = 0.25 + 0.35 * uniform(state)
    _spray(state, q, x, y, 0.85 * energy, 48, core, grid, frame)
    _spray(state, q, x, y, 0.15 * energy, 16, 1.6, grid, frame)


@device_function
def _hadronic(state: Any, q: Any, grid: Any, frame: Any) -> None:
    energy = min(_lognormal(state, 700.0, 0.9), 9000.0)
    x, y = _point(state, grid, frame)
    clusters = 2 + int(4.0 * uniform(state))
    for _ in range(clusters):
        share = -energy * 0.7 / clusters * math.log(uniform(state))
        r, phi = -1.6 * math.log(uniform(state)), TURN * uniform(state)
        dx, dy = r * math.cos(phi), r * math.sin(phi)
        _spray(state, q, x + dx, y + dy, share, 10, 0.5, grid, frame)
    _spray(state, q, x, y, 0.3 * energy, 16, 2.8, grid, frame)


@device_function
def _pileup(state: Any, q: Any, deposits: float, grid: Any, frame: Any) -> None:
    phi, slope = TURN * uniform(state), 0.7 * uniform(state)
    along, across = math.cos(phi) / 8.0, math.sin(phi) / 8.0
    elapsed = -math.log(uniform(state))
    while elapsed < deposits:
        elapsed -= math.log(uniform(state))
        x, y = _point(state, grid, frame)
        tilt = 1.0 + slope * ((x - frame[3]) * along + (y - frame[4]) * across)
        if uniform(state) * (1.0 + slope) > tilt:
            x, y = _point(state, grid, frame)
        charge = _lognormal(state, 17.0, 1.15)
        if uniform(state) < 0.002:
            charge *= 12.0
        q[_cell_at(x, y, grid, frame)] += 0.7 * charge
        _spray(state, q, x, y, 0.3 * charge, 3, 0.9, grid, frame)


@kernel(
    (
        scalar("i8"),
        scalar("i8"),
        input_array("i8", 2),
        input_array("f8", 1),
        output_array("u1", 1),
        output_array("u4", 2),
    )
)
def fill(
    seed: int,
    first: int,
    grid: NDArray[np.int64],
    frame: NDArray[np.float64],
    truth: NDArray[np.uint8],
    charge: NDArray[np.uint32],
) -> None:
    """Simulate events ``first`` to ``first + len(truth)`` into `truth` and `charge`.

    Parameters
    ----------
    seed, first
        Key of the random stream and number of the first event.
    grid
        (nx, ny) cell under each point of a raster over the wafer, -1 off the wafer.
    frame
        (5,) raster origin x, y, points per unit length, and the wafer's centre x, y; in
        unit-hex distance.
    truth
        (N,) class of each event, written.
    charge
        (N, 48) transverse charge in ADC counts, written.
    """
    state = np.empty(1, np.uint64)
    q = np.empty(charge.shape[1], np.float64)
    for i in range(len(truth)):
        begin(state, seed, first + i)
        q[:] = 0.0
        u = uniform(state)
        deposits = _lognormal(state, 16.0, 1.25)
        if u < P_ELECTROMAGNETIC + P_HADRONIC:
            deposits *= 0.35 * uniform(state)
            if u < P_ELECTROMAGNETIC:
                truth[i] = ELECTROMAGNETIC
                _electromagnetic(state, q, grid, frame)
            else:
                truth[i] = HADRONIC
                _hadronic(state, q, grid, frame)
        else:
            truth[i] = PILEUP
        _pileup(state, q, min(deposits, 140.0), grid, frame)
        threshold = 2.0 + 4.0 * uniform(state)
        for cell in range(len(q)):
            value = q[cell]
            charge[i, cell] = int(min(value, CHARGE_MAX)) if value >= threshold else 0
