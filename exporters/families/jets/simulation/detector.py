"""A toy particle-flow detector: a tracker and a calorimeter turn particles into candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Candidates = dict[str, NDArray[Any]]

#: Candidates beyond this pseudorapidity are not seen; tracks end before.
REACH = 3.0
TRACKER = 2.5
#: Smallest transverse momentum of a track and of a cell, GeV, and the share of tracks found.
TRACK_PT, CELL_PT, EFFICIENCY = 0.5, 0.3, 0.95

# Cells around the axis: those of a crystal and those of a tower of five by five crystals.
_CRYSTALS, _TOWERS = 360, 72
# Relative resolutions: stochastic term (√GeV) and constant term.
_ELECTROMAGNETIC, _HADRONIC = (0.10, 0.01), (0.50, 0.05)
_TRACK = 0.01

_UNSEEN = (12, 13, 14, 16)
_SHOWERS = (11, 22)


def reconstruct_candidates(
    event: NDArray[np.int64],
    identity: NDArray[np.int32],
    momentum: Floats,
    charged: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Candidates:
    """Return the candidates that some events' particles leave, event by event.

    A charged particle within the tracker leaves a track, if found. All others leave energy in
    cells: photons and electrons in crystals, hadrons in towers, each smeared as a whole. Neutrinos
    and muons leave nothing.

    Parameters
    ----------
    event
        (P,) number of each stable particle's event.
    identity
        (P,) PDG code.
    momentum
        (4, P) px, py, pz, E, GeV.
    charged
        (P,).
    rng
        Source of everything random.

    Returns
    -------
    dict
        ``event`` (C,) i64, rising; ``pt`` (C,) GeV, ``eta``, ``phi`` f32. Candidates are massless.
    """
    code = np.abs(identity)
    pt = np.hypot(momentum[0], momentum[1])
    eta = np.arcsinh(momentum[2] / np.maximum(pt, 1e-9))
    phi = np.arctan2(momentum[1], momentum[0])
    seen = ~np.isin(code, _UNSEEN) & (np.abs(eta) < REACH)
    found = rng.random(len(code)) < EFFICIENCY
    track = seen & charged & (pt > TRACK_PT) & (np.abs(eta) < TRACKER) & found
    smeared = pt[track] * np.maximum(rng.normal(1.0, _TRACK, int(track.sum())), 0.1)
    parts = [(event[track], smeared, eta[track], phi[track])]
    shower = np.isin(code, _SHOWERS)
    for kind, cells, resolution in (
        (shower, _CRYSTALS, _ELECTROMAGNETIC),
        (~shower, _TOWERS, _HADRONIC),
    ):
        chosen = seen & ~track & kind
        columns = (event[chosen], momentum[3][chosen], eta[chosen], phi[chosen])
        parts.append(_cells(*columns, cells, resolution, rng))
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    names = ("pt", "eta", "phi")
    return {
        "event": joined[0][order],
        **{n: c[order].astype(np.float32) for n, c in zip(names, joined[1:], strict=True)},
    }


def _cells(
    event: NDArray[np.int64],
    energy: Floats,
    eta: Floats,
    phi: Floats,
    around: int,
    resolution: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    width = 2.0 * np.pi / around
    rows = 2 * int(np.ceil(REACH / width))
    row = np.floor(eta / width).astype(np.int64) + rows // 2
    column = np.minimum(((phi + np.pi) / width).astype(np.int64), around - 1)
    key, cell = np.unique((event * rows + row) * around + column, return_inverse=True)
    summed = np.bincount(cell, energy, len(key)).astype(np.float64)
    stochastic, constant = resolution
    sigma = np.sqrt(stochastic**2 * summed + (constant * summed) ** 2)
    total = np.maximum(summed + sigma * rng.normal(size=len(key)), 0.0)
    eta_of = ((key // around) % rows - rows // 2 + 0.5) * width
    phi_of = (key % around + 0.5) * width - np.pi
    pt = total / np.cosh(eta_of)
    kept = pt > CELL_PT
    return key[kept] // (rows * around), pt[kept], eta_of[kept], phi_of[kept]
