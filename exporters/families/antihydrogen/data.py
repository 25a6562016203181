"""Annihilations to train and to measure on: simulated, and the experiment's own simulated ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.evaluation import reference_data
from sluice.kernels.antihydrogen.strips import BYTES, PHI, STRIPS, Z, pack_strips, to_images
from sluice.kernels.antihydrogen.vertex import MAX_DISTANCE_MM, find_vertices
from sluice.pipeline.core.errors import DataError

from .simulate import simulate

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
#: The experiment's events, which no training sees.
FILES = ("antihydrogen_vertex_train.csv.gz", "antihydrogen_vertex_valid.csv.gz")
#: Classes of coverage, as the paper divides events.
COVERAGE = ("none", "one_layer", "two_layers", "vertex")


@dataclass(frozen=True)
class Annihilations:
    """Events: packed strips (N, 179) u8 and truth (N,) u8, 1 for the wall."""

    strips: U8
    truth: U8

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all strips and truths."""
        return hashlib.sha256(self.strips.tobytes() + self.truth.tobytes()).hexdigest()

    def part(self, rows: NDArray[Any] | slice) -> Annihilations:
        """Return some of the events."""
        return Annihilations(self.strips[rows], self.truth[rows])

    def images(self) -> tuple[F32, F32, U8]:
        """Return z (N, 2, 447), φ (N, 2, 246) and the layers hit (N,)."""
        return unpacked(self.strips)

    def coverage(self) -> tuple[U8, F32]:
        """Return each event's index into `COVERAGE`, and its vertex' radius, -1 without, in mm."""
        layers = self.images()[2]
        where, radius = np.empty((len(self), 3), np.float32), np.empty(len(self), np.float32)
        find_vertices(self.strips, MAX_DISTANCE_MM, where, radius)
        return np.where(radius >= 0, 3, layers).astype(np.uint8), radius


def unpacked(strips: U8) -> tuple[F32, F32, U8]:
    """Return z, φ and layers of (N, 179) packed strips, as the stage makes them online."""
    events = len(strips)
    z, phi = np.empty((events, 2, Z), np.float32), np.empty((events, 2, PHI), np.float32)
    layers, status = np.empty(events, np.uint8), np.empty(events, np.uint8)
    to_images(np.ascontiguousarray(strips), z, phi, layers, status)
    return z, phi, layers


def simulated(
    events: int, seed: int, *, hit: bool = False, toy: dict[int, float] | None = None
) -> Annihilations:
    """Return simulated events; with `hit` only those with a layer that was hit.

    `toy` has constants that differ from the tuned ones.
    """
    found = []
    wanted, first = events, 0
    while wanted > 0:
        columns = simulate(16_384, seed, first, toy)
        first += 16_384
        block = Annihilations(columns["strips"], columns["truth"])
        block = block.part(block.images()[2] > 0) if hit else block
        found.append(block.part(slice(0, wanted)))
        wanted -= len(found[-1])
    return joined(found)


def joined(parts: list[Annihilations]) -> Annihilations:
    """Return all events of some samples."""
    return Annihilations(
        np.concatenate([one.strips for one in parts]), np.concatenate([one.truth for one in parts])
    )


def real(name: str) -> Annihilations | None:
    """Return the events of one of `FILES`, or None if the file is missing."""
    path = reference_data.folder() / "antihydrogen" / name
    return read(path) if path.is_file() else None


def read(path: Path) -> Annihilations:
    """Return the events of a table of numbers: the target, then 1,430 strips, in every row.

    Raises
    ------
    DataError
        If the file is not of that form.
    """
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read: {error}") from error
    if rows.shape[1] != STRIPS + 1 or not np.isin(rows, (0, 1)).all():
        raise DataError(
            f"{path}: expected {STRIPS + 1} columns of 0 and 1, got {rows.shape[1]} columns "
            f"with values from {rows.min():g} to {rows.max():g}"
        )
    return Annihilations(packed(rows[:, 1:].astype(np.uint8)), rows[:, 0].astype(np.uint8))


def packed(bits: U8) -> U8:
    """Return (N, 1430) strips as (N, 179) bytes of bits."""
    found = np.empty((len(bits), BYTES), np.uint8)
    pack_strips(np.ascontiguousarray(bits), found)
    return found
