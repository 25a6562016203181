"""Simulated and measured wafers as the nets see them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.wafer import normalise, unpack
from sluice.kernels.wafer_geometry import ADC_PER_MIPT, CELLS, GRID
from sluice.pipeline.errors import DataError

from .simulate import charges, words

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


#: Measured files by the class that each stands for.
MEASURED = {
    "electron_pt20_eta15-30_0PU.csv": 0,
    "jet_pt20_eta15-30_0PU.csv": 1,
    "CALQ_output.csv": 2,
}


def folder() -> Path:
    """Return the folder of measured data: ``SLUICE_DATA``, or that beside the project."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    return Path(os.environ.get("SLUICE_DATA", beside))


def measured(name: str) -> Wafers | None:
    """Return the distinct wafers of a measured file in `folder`, or None if it is not there."""
    path = folder() / "calq" / name
    return read_csv(path) if path.is_file() else None


def read_csv(path: Path) -> Wafers:
    """Return the distinct wafers of a CSV file with one column for each of the 48 charges.

    Raises
    ------
    DataError
        If the file is not of that form.
    """
    try:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read: {error}") from error
    if rows.shape[1] != CELLS or rows.min(initial=0) < 0:
        raise DataError(
            f"{path}: expected {CELLS} columns of charges, none negative, "
            f"got {rows.shape[1]} columns and a lowest value of {rows.min(initial=0):g}"
        )
    if not rows.any():
        raise DataError(f"{path}: expected wafers with charge, got none among {len(rows)} rows")
    _, first = np.unique(rows, axis=0, return_index=True)
    return wafers(rows[np.sort(first)].astype(np.uint32))


def crossings(path: Path) -> Wafers | None:
    """Return the distinct wafers of a file of input words in hexadecimal, or None without it."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="ascii").split()[1:]
    held = np.array([[int(word, 16) for word in line.split(",")] for line in lines], np.uint32)
    decoded = np.empty((len(held), CELLS), np.float32)
    unpack(held, decoded)
    return wafers(np.unique(decoded.astype(np.uint32), axis=0))


def tested(charge: U32) -> NDArray[np.bool_]:
    """Tell which wafers are never trained on, wherever they come from.

    A quarter, by a hash of the image: the same image always falls on the same side.

    Parameters
    ----------
    charge
        (N, 48) u32, ADC counts.

    Returns
    -------
    array
        (N,) bool.
    """
    rows = np.ascontiguousarray(charge, "<u4")
    first = [hashlib.blake2b(row.tobytes(), digest_size=1).digest()[0] for row in rows]
    kept: NDArray[np.bool_] = np.asarray(first, np.uint8) % 4 == 0
    return kept


def digests(charge: U32) -> NDArray[np.uint64]:
    """Return a number for each wafer, (N,), by which the same image is known again."""
    rows = np.ascontiguousarray(charge, "<u4")
    codes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(codes), "<u8")


def learnt(name: str, label: int) -> Wafers | None:
    """Return the part of a measured file that nets are trained on, each as class `label`."""
    found = measured(name)
    if found is None:
        return None
    charge = found.charge[~tested(found.charge)]
    return wafers(charge, np.full(len(charge), label, np.uint8))


def joined(parts: Sequence[Wafers]) -> Wafers:
    """Return all wafers of several samples."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Wafers(*(np.concatenate(column) for column in columns))


def turned(sample: Wafers, turns: NDArray[np.int64], times: int) -> Wafers:
    """Return a sample in each of (K, 48) `turns` of the wafer, all of it `times` over."""
    charge = np.concatenate([sample.charge[:, turn] for turn in turns] * times)
    return wafers(charge, np.tile(sample.truth, len(turns) * times).astype(np.uint8))


def hard(sample: Wafers) -> Wafers:
    """Return the wafers with at least two cells above one MIP_T, on which codecs are compared."""
    return sample.part(np.flatnonzero((sample.charge > ADC_PER_MIPT).sum(1) >= 2))
