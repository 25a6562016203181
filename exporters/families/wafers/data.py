"""Simulated and measured wafers as the nets see them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.families.wafers.simulation.wafers import charges, words
from sluice.kernels.wafer import normalise, unpack
from sluice.kernels.wafer.geometry import ADC_PER_MIPT, GRID

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Wafers:
    """Wafers with charge, as the nets see them.

    Attributes
    ----------
    charge
        (N, 48) u32, ADC counts.
    truth
        (N,) i64, class.
    image
        (N, 8, 8) f32, the encoder's input.
    fraction
        (N, 48) f32, charge over the wafer's sum.
    total
        (N,) f32, module sum, ADC counts.
    """

    charge: U32
    truth: NDArray[np.int64]
    image: F32
    fraction: F32
    total: F32

    def __len__(self) -> int:
        """Return the number of wafers."""
        return len(self.truth)

    def part(self, rows: slice | NDArray[np.int64]) -> Wafers:
        """Return some of the wafers."""
        return Wafers(*(column[rows] for column in vars(self).values()))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of charge and truth."""
        return hashlib.sha256(self.charge.tobytes() + self.truth.tobytes()).hexdigest()


def wafers(charge: U32, truth: NDArray[np.uint8] | None = None) -> Wafers:
    """Prepare charges for the nets; wafers without any charge are left out."""
    held = charge.any(axis=1)
    charge = charge[held]
    events = len(charge)
    labels = np.zeros(events, np.int64) if truth is None else truth[held].astype(np.int64)
    image, total = np.empty((events, *GRID), np.float32), np.empty(events, np.float32)
    normalise(charge.astype(np.float32), image, total, np.empty(events, np.uint8))
    fraction = (charge / charge.sum(1, dtype=np.float64, keepdims=True)).astype(np.float32)
    return Wafers(charge, labels, image, fraction, total)


def over_link(charge: U32) -> U32:
    """Return charges as they come out of the front-end chip's 7-bit codes."""
    decoded = np.empty(charge.shape, np.float32)
    unpack(words(np.arange(len(charge)), charge), decoded)
    return decoded.astype(np.uint32)


def simulated(events: int, seed: int, coded: float) -> Wafers:
    """Simulate wafers, a share `coded` of them with the charge that the chip's codes leave."""
    truth, charge = charges(events, seed)
    # Spread evenly over the events, so that every part of the sample holds the same share.
    steps = np.floor(np.arange(events + 1) * coded)
    through = np.diff(steps) > 0
    charge[through] = over_link(charge[through])
    return wafers(charge, truth)


def concatenate(parts: Sequence[Wafers]) -> Wafers:
    """Return all wafers of several samples."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Wafers(*(np.concatenate(column) for column in columns))


def rotate(sample: Wafers, turns: NDArray[np.int64], times: int) -> Wafers:
    """Return a sample in each of (K, 48) `turns` of the wafer, all of it `times` over."""
    charge = np.concatenate([sample.charge[:, turn] for turn in turns] * times)
    return wafers(charge, np.tile(sample.truth, len(turns) * times).astype(np.uint8))


def threshold(sample: Wafers) -> Wafers:
    """Return the wafers with at least two cells above one MIP_T, on which codecs are compared."""
    return sample.part(np.flatnonzero((sample.charge > ADC_PER_MIPT).sum(1) >= 2))
