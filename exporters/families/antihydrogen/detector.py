"""Physics of one annihilation, compiled: pions and photons through the trap's wall to the strips.

Every event owns a counter-based random stream keyed on ``(seed, event number)``, so the same event
comes out whatever the size of the block it was asked for in. Lengths in mm, momenta in GeV.

References
----------
P. Sadowski et al., J. Phys. Commun. 1 (2017) 025001: the detector.
Particle Data Group, "Passage of particles through matter": multiple scattering, energy loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.simulation.random_streams import TURN, begin, normal, poisson, uniform
from sluice.kernels.antihydrogen.strips import INNER_MM, OUTER_MM, STRIPS, VIEWS, Z
from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

AXIS, WALL = 0, 1

#: Index of each constant of the toy in its array; `simulate.TUNED` gives the values.
(
    WALL_RADIUS, CLOUD, Z_MEAN, Z_SPREAD, FIELD, PIPE_RADIUS, THICKNESS, LAYER_THICKNESS,
    EFFICIENCY, VIEW_EFFICIENCY, GAP, DIFFUSION, TAIL, NOISE, PHOTONS, CONVERSION, P_SCALE, P_MIN,
) = range(18)  # fmt: skip
CONSTANTS = 18
PION, ELECTRON = 0.1396, 0.000511
LIGHT = 299.792458  # mm/ns
#: Index of a track's columns after position (0 to 2) and direction (3 to 5), and their number.
TIME, SLOWNESS, COLUMNS = 6, 7, 8
STEP_MM = 2.0
#: The first φ strips see nothing: no real event has a cluster there.
DEAD_ANGLE = 0.19


@device_function
def _scatter(state: Any, way: Any, p: Any, mass: Any, thickness: Any) -> None:
    """Turn a direction by multiple scattering in `thickness` radiation lengths, crossed aslant."""
    beta_p = p * p / math.sqrt(p * p + mass * mass)
    across = max(0.1, math.hypot(way[0], way[1]))
    width = 0.0136 / beta_p * math.sqrt(thickness / across)
    sin_theta = max(1e-6, math.hypot(way[0], way[1]))
    u, v = width * normal(state), width * normal(state)
    # Along the two directions across the way: e_phi and e_theta.
    ex, ey = -way[1] / sin_theta, way[0] / sin_theta
    tx, ty, tz = way[0] * way[2] / sin_theta, way[1] * way[2] / sin_theta, -sin_theta
    for k, step in ((0, u * ex + v * tx), (1, u * ey + v * ty), (2, v * tz)):
        way[k] += step
    length = math.sqrt(way[0] ** 2 + way[1] ** 2 + way[2] ** 2)
    for k in range(3):
        way[k] /= length


@device_function
def _fire(bits: Any, view: Any, low: Any, high: Any) -> None:
    """Fire the strips of a view between two positions, in strips."""
    first = max(0, math.floor(low))
    last = min(VIEWS[view + 1] - VIEWS[view] - 1, math.floor(high))
    for strip in range(first, last + 1):
        bits[VIEWS[view] + strip] = 1


@device_function
def _cluster(state: Any, view: Any, place: Any, half: Any, toy: Any, bits: Any) -> None:
    """Fire the strips under a track: its ends may be below threshold, or reach far."""
    low = max(0.0, half + toy[DIFFUSION] * uniform(state))
    high = max(0.0, half + toy[DIFFUSION] * uniform(state))
    if uniform(state) < toy[TAIL]:
        high -= 2.0 * math.log(uniform(state))
    if uniform(state) < toy[TAIL]:
        low -= 2.0 * math.log(uniform(state))
    _fire(bits, view, place - low, place + high)


@device_function
def _hit(state: Any, at: Any, way: Any, layer: Any, toy: Any, bits: Any) -> None:
    """Let a track through a layer fire strips of both views."""
    angle = math.atan2(at[1], at[0])
    if angle < DEAD_ANGLE or at[2] < 0.0 or at[2] >= Z or uniform(state) > toy[EFFICIENCY]:
        return
    radius = OUTER_MM if layer else INNER_MM
    along = max(0.15, (way[0] * at[0] + way[1] * at[1]) / radius)
    turn = (way[1] * at[0] - way[0] * at[1]) / radius
    # Half of what the track covers in the gas, in strips.
    half_z = 0.5 * toy[GAP] * abs(way[2]) / along
    half_phi = 0.5 * toy[GAP] * abs(turn) / along
    place = angle * radius
    if uniform(state) < toy[VIEW_EFFICIENCY]:
        _cluster(state, 2 * layer, at[2], min(half_z, 8.0), toy, bits)
    if uniform(state) < toy[VIEW_EFFICIENCY]:
        _cluster(state, 2 * layer + 1, place, min(half_phi, 8.0), toy, bits)


@device_function
def _leave(at: Any, way: Any, elapsed: Any, slowness: Any, tracks: Any) -> None:
    """Record a particle that leaves the tracker in the first free row, if any."""
    for row in tracks:
        if row[SLOWNESS] == 0.0:
            for k in range(3):
                row[k], row[3 + k] = at[k], way[k]
            row[TIME], row[SLOWNESS] = elapsed, slowness
            return


@device_function
def _fly(
    state: Any, at: Any, way: Any, p: Any, charge: Any, mass: Any, toy: Any, bits: Any, tracks: Any
) -> None:
    """Follow a charged particle out to the outer layer; it scatters in what it crosses."""
    crossed, steps = 0, 0
    pipe = toy[PIPE_RADIUS]
    radius = math.hypot(at[0], at[1])
    if radius >= pipe:
        crossed = 1
    # The field lies along the axis: the direction turns by this angle a mm of way.
    bend = charge * 0.3e-3 * toy[FIELD] / p
    for _ in range(400):
        cos, sin = math.cos(bend * STEP_MM), math.sin(bend * STEP_MM)
        way[0], way[1] = cos * way[0] - sin * way[1], sin * way[0] + cos * way[1]
        for k in range(3):
            at[k] += STEP_MM * way[k]
        steps += 1
        before, radius = radius, math.hypot(at[0], at[1])
        border = pipe if crossed == 0 else (INNER_MM if crossed == 1 else OUTER_MM)
        if radius < border:
            continue
        share = (radius - border) / max(radius - before, 1e-6)
        back = min(1.0, share) * STEP_MM
        if crossed == 0:
            _scatter(state, way, p, mass, toy[THICKNESS])
        else:
            here = np.empty(3)
            for k in range(3):
                here[k] = at[k] - back * way[k]
            _hit(state, here, way, crossed - 1, toy, bits)
            _scatter(state, way, p, mass, toy[LAYER_THICKNESS])
        crossed += 1
        if crossed == 3:
            slowness = math.sqrt(p * p + mass * mass) / (p * LIGHT)
            _leave(at, way, steps * STEP_MM * slowness, slowness, tracks)
            return


@device_function
def _isotropic(state: Any, way: Any) -> None:
    way[2] = 2.0 * uniform(state) - 1.0
    across, angle = math.sqrt(max(0.0, 1.0 - way[2] ** 2)), TURN * uniform(state)
    way[0], way[1] = across * math.cos(angle), across * math.sin(angle)


@device_function
def _prongs(state: Any) -> Any:
    u = uniform(state)
    if u < 0.04:
        return 0
    if u < 0.47:
        return 2
    return 4 if u < 0.96 else 6


@device_function
def _convert(state: Any, start: Any, toy: Any, bits: Any, tracks: Any) -> None:
    """Convert a photon of a π0 to a pair in the trap's wall, with the probability for it."""
    at, way = np.empty(3), np.empty(3)
    _isotropic(state, way)
    across = max(0.1, math.hypot(way[0], way[1]))
    if uniform(state) > toy[CONVERSION] / across:
        return
    # From the start straight to the wall.
    along = start[0] * way[0] + start[1] * way[1]
    inside = max(
        0.0, along**2 - across**2 * (start[0] ** 2 + start[1] ** 2 - toy[PIPE_RADIUS] ** 2)
    )
    length = (-along + math.sqrt(inside)) / across**2
    energy = 0.03 - 0.12 * math.log(uniform(state))
    share = 0.1 + 0.8 * uniform(state)
    for charge, part in ((1.0, share), (-1.0, 1.0 - share)):
        other = way.copy()
        for k in range(3):
            at[k] = start[k] + length * way[k]
        p = max(0.015, part * energy)
        _scatter(state, other, p, ELECTRON, 0.5 * toy[THICKNESS])
        _fly(state, at, other, p, charge, ELECTRON, toy, bits, tracks)


@device_function
def _noise(state: Any, toy: Any, bits: Any) -> None:
    for view in range(4):
        for _ in range(poisson(state, toy[NOISE])):
            place = uniform(state) * (VIEWS[view + 1] - VIEWS[view])
            _cluster(state, view, place, 0.0, toy, bits)


@device_function
def _annihilate(state: Any, wall: Any, toy: Any, bits: Any, tracks: Any) -> None:
    start, at, way = np.empty(3), np.empty(3), np.empty(3)
    angle = TURN * uniform(state)
    radius = toy[WALL_RADIUS]
    if wall == 0:
        # A cloud around the axis that the wall confines.
        radius = toy[CLOUD] * math.sqrt(-2.0 * math.log(uniform(state)))
        while radius >= toy[WALL_RADIUS]:
            radius = toy[CLOUD] * math.sqrt(-2.0 * math.log(uniform(state)))
    start[0], start[1] = radius * math.cos(angle), radius * math.sin(angle)
    start[2] = toy[Z_MEAN] + toy[Z_SPREAD] * normal(state)
    for n in range(_prongs(state)):
        p = 0.0
        for _ in range(3):
            p -= toy[P_SCALE] * math.log(uniform(state))
        _isotropic(state, way)
        for k in range(3):
            at[k] = start[k]
        if p > toy[P_MIN]:
            _fly(state, at, way, p, 1.0 if n % 2 else -1.0, PION, toy, bits, tracks)
    for _ in range(poisson(state, toy[PHOTONS])):
        _convert(state, start, toy, bits, tracks)
    _noise(state, toy, bits)


@kernel(
    (
        scalar("i8"),
        scalar("i8"),
        input_array("f8", 1),
        output_array("u1", 1),
        output_array("u1", 2),
        output_array("f8", 3),
    )
)
def simulate_annihilations(
    seed: int, first: int, toy: NDArray[np.float64], truth: NDArray[np.uint8],
    bits: NDArray[np.uint8], tracks: NDArray[np.float64],
) -> None:  # fmt: skip
    """Simulate annihilations.

    Parameters
    ----------
    seed
        Key of the random streams.
    first
        Number of the first event.
    toy
        (18,), the toy's constants.
    truth
        (N,), output: `AXIS` or `WALL`, one half each.
    bits
        (N, 1430), output: 1 where a strip has fired.
    tracks
        (N, K, 8), output: up to K particles that leave the tracker, the rest 0. Place (mm) and
        direction (3 each), `TIME` since the annihilation (ns) and `SLOWNESS` (ns/mm).
    """
    if toy.shape[0] != CONSTANTS or bits.shape != (truth.shape[0], STRIPS):
        raise ValueError("fill: expected toy (18,), truth (N,) and bits (N, 1430)")
    if tracks.shape[0] != truth.shape[0] or tracks.shape[2] != COLUMNS:
        raise ValueError("fill: expected tracks (N, K, 8)")
    state = np.empty(1, np.uint64)
    for i in range(len(truth)):
        begin(state, seed, first + i)
        truth[i] = WALL if uniform(state) < 0.5 else AXIS
        bits[i], tracks[i] = 0, 0.0
        _annihilate(state, int(truth[i]), toy, bits[i], tracks[i])


@kernel(
    (scalar("i8"), scalar("i8"), input_array("f8", 1), input_array("f8", 3), output_array("u1", 2))
)
def deposit_hits(
    seed: int, first: int, toy: NDArray[np.float64], tracks: NDArray[np.float64],
    bits: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Fire the strips, (N, 1430), that straight tracks, (N, K, 8), hit."""
    if toy.shape[0] != CONSTANTS or bits.shape != (tracks.shape[0], STRIPS):
        raise ValueError("strike: expected toy (18,), tracks (N, K, 8) and bits (N, 1430)")
    state, at = np.empty(1, np.uint64), np.empty(3)
    for i in range(len(bits)):
        begin(state, seed, first + i)
        bits[i] = 0
        for k in range(tracks.shape[1]):
            place, way = tracks[i, k, :3], tracks[i, k, 3:6]
            across = way[0] ** 2 + way[1] ** 2
            along = place[0] * way[0] + place[1] * way[1]
            for layer in range(2):
                radius = OUTER_MM if layer else INNER_MM
                inside = along**2 - across * (place[0] ** 2 + place[1] ** 2 - radius**2)
                if inside <= 0.0 or across == 0.0:
                    continue
                length = (math.sqrt(inside) - along) / across
                for axis in range(3):
                    at[axis] = place[axis] + length * way[axis]
                _hit(state, at, way, layer, toy, bits[i])
        _noise(state, toy, bits[i])
