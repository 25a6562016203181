"""Annihilations and cosmic muons in strips and bars. Needs only NumPy and numba.

The tracker and its annihilations are the antihydrogen family's. The hodoscope has two rings of 32
bars, as ASACUSA's; its radii, lengths and resolution are ours, and so is the muons' share.

References
----------
C. Sauerzopf et al., Nucl. Instrum. Meth. A 845 (2017) 579: the hodoscope.
Particle Data Group, "Cosmic rays": muons at sea level, cos² of the zenith angle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.families.antihydrogen import detector
from sluice.exporters.families.antihydrogen.simulate import SPACING_NS, TUNED, toy_constants
from sluice.exporters.simulation.random_streams import TURN
from sluice.kernels.antihydrogen.hodoscope import AROUND, BARS, STEP_NS
from sluice.kernels.antihydrogen.strips import BYTES, STRIPS, Z, pack_strips

F64 = NDArray[np.float64]
Hits = tuple[NDArray[np.uint8], NDArray[np.uint16]]
COSMIC, ANNIHILATION = 0, 1

#: Annihilations are spread along the trap, in the middle of the strips.
MIDDLE_MM = Z / 2
TOY = toy_constants({**TUNED, detector.Z_MEAN: MIDDLE_MM, detector.Z_SPREAD: 60.0})
#: Radius and half of the bars' length of each ring, mm.
RINGS_MM = ((100.0, 150.0), (175.0, 225.0))
EFFICIENCY, RESOLUTION_NS = 0.97, 0.25
#: Noise hits per readout, spread over its window, ns; range of the first particle's time, ns.
NOISE, WINDOW_NS, OPENED_NS = 0.1, 100.0, (30.0, 55.0)
#: Muons are drawn through a disk around the middle, wide enough for the outer ring.
DISK_MM = 290.0
_TRACKS = 24


def simulate(events: int, seed: int, first: int = 0) -> dict[str, NDArray[Any]]:
    """Simulate readouts in which a bar of each ring has fired, as columns of an event batch.

    Parameters
    ----------
    events
        Number of readouts; half of them are cosmic.
    seed, first
        Key of the random streams and number of the first event: both together decide the block.

    Returns
    -------
    dict
        ``event_id`` (N,) u64; ``t_event`` (N,) i64 ns; ``truth`` (N,) u8; ``strips`` (N, 179) u8,
        the strip bits; ``bars`` (N, 64) u16, the bars' clocks in 0.1 ns.
    """
    rng = np.random.default_rng((seed, first))
    truth = (rng.random(events) < 0.5).astype(np.uint8)
    bits, bars = np.empty((events, STRIPS), np.uint8), np.empty((events, BARS), np.uint16)
    for label, draw in ((COSMIC, muons), (ANNIHILATION, annihilations)):
        left = np.flatnonzero(truth == label)
        while len(left):
            bits[left], bars[left] = draw(len(left), rng)
            inner, outer = bars[left, :AROUND].any(axis=1), bars[left, AROUND:].any(axis=1)
            left = left[~(inner & outer)]
    strips = np.empty((events, BYTES), np.uint8)
    pack_strips(bits, strips)
    number = np.arange(first, first + events, dtype=np.uint64)
    time = number.astype(np.int64) * SPACING_NS
    return {"event_id": number, "t_event": time, "truth": truth, "strips": strips, "bars": bars}


def annihilations(events: int, rng: np.random.Generator) -> Hits:
    """Return strips (N, 1430) and bars (N, 64) of annihilations on the wall and on the axis."""
    truth, bits = np.empty(events, np.uint8), np.empty((events, STRIPS), np.uint8)
    tracks = np.empty((events, _TRACKS, detector.COLUMNS))
    detector.simulate_annihilations(int(rng.integers(2**62)), 0, TOY, truth, bits, tracks)
    return bits, clocks(tracks, rng)


def muons(events: int, rng: np.random.Generator) -> Hits:
    """Return strips and bars of muons from above, straight through; y points up."""
    tracks = straight(events, rng)
    bits = np.empty((events, STRIPS), np.uint8)
    detector.deposit_hits(int(rng.integers(2**62)), 0, TOY, tracks, bits)
    return bits, clocks(tracks, rng)


def straight(events: int, rng: np.random.Generator) -> F64:
    """Return (N, 2, 8) tracks of muons: in both directions from the point nearest to the axis."""
    down, turn = np.cbrt(rng.random(events)), TURN * rng.random(events)
    across = np.sqrt(1.0 - down**2)
    way = np.stack([across * np.cos(turn), -down, across * np.sin(turn)], axis=1)
    # Two directions across the way, and a point of the disk.
    one = np.stack([np.sin(turn), np.zeros(events), -np.cos(turn)], axis=1)
    two = np.cross(way, one)
    radius, angle = DISK_MM * np.sqrt(rng.random(events)), TURN * rng.random(events)
    at = radius[:, None] * (np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * two)
    at[:, 2] += MIDDLE_MM
    along = -(at[:, :2] * way[:, :2]).sum(1) / np.maximum((way[:, :2] ** 2).sum(1), 1e-9)
    at += along[:, None] * way
    tracks = np.zeros((events, 2, detector.COLUMNS))
    tracks[:, :, :3] = at[:, None]
    tracks[:, 0, 3:6], tracks[:, 1, 3:6] = way, -way
    # Back is earlier.
    tracks[:, 0, detector.SLOWNESS], tracks[:, 1, detector.SLOWNESS] = 1.0, -1.0
    tracks[:, :, detector.SLOWNESS] /= detector.LIGHT
    return tracks


def clocks(tracks: F64, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return what the bars' clocks (N, 64) show for straight tracks (N, K, 8), with noise."""
    events = len(tracks)
    times = np.full((events, BARS), np.inf)
    place, way = tracks[..., :3], tracks[..., 3:6]
    across = np.maximum((way[..., :2] ** 2).sum(-1), 1e-9)
    along = (place[..., :2] * way[..., :2]).sum(-1)
    for ring, (radius, half) in enumerate(RINGS_MM):
        inside = along**2 - across * ((place[..., :2] ** 2).sum(-1) - radius**2)
        length = (np.sqrt(np.maximum(inside, 0.0)) - along) / across
        at = place + length[..., None] * way
        hit = (inside > 0) & (tracks[..., detector.SLOWNESS] != 0)
        hit &= (np.abs(at[..., 2] - MIDDLE_MM) < half) & (rng.random(hit.shape) < EFFICIENCY)
        angle = np.arctan2(at[..., 1], at[..., 0]) / TURN % 1.0
        bar = ring * AROUND + np.minimum((angle * AROUND).astype(np.int64), AROUND - 1)
        time = tracks[..., detector.TIME] + length * tracks[..., detector.SLOWNESS]
        time += RESOLUTION_NS * rng.normal(size=time.shape)
        np.minimum.at(times, (np.nonzero(hit)[0], bar[hit]), time[hit])
    times += rng.uniform(*OPENED_NS, size=(events, 1))
    noise = rng.random(times.shape) < NOISE / BARS
    times[noise] = np.minimum(times[noise], WINDOW_NS * rng.random(int(noise.sum())))
    times[(times < STEP_NS) | (times > WINDOW_NS)] = 0.0
    return np.round(times / STEP_NS).astype(np.uint16)
