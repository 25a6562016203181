"""Measured wafers in files, and the ones of them that are never trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.evaluation.reference_data import folder
from sluice.kernels.wafer import unpack
from sluice.kernels.wafer.geometry import CELLS
from sluice.pipeline.core.errors import DataError

from .data import U32, Wafers, wafers

#: Measured files by the class that each stands for.
MEASURED = {
    "electron_pt20_eta15-30_0PU.csv": 0,
    "jet_pt20_eta15-30_0PU.csv": 1,
    "CALQ_output.csv": 2,
}


def measured(name: str) -> Wafers | None:
    """Return the distinct wafers of a measured file, or None if the file is missing."""
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


def test_rows(charge: U32) -> NDArray[np.bool_]:
    """Return a mask, (N,), of the wafers that are never trained on, whatever their origin.

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


def image_digests(charge: U32) -> NDArray[np.uint64]:
    """Return a digest of each wafer's image, (N,), by which the same image is recognised."""
    rows = np.ascontiguousarray(charge, "<u4")
    codes = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(codes), "<u8")


def training_rows(name: str, label: int) -> Wafers | None:
    """Return the part of a measured file that nets are trained on, each as class `label`."""
    found = measured(name)
    if found is None:
        return None
    charge = found.charge[~test_rows(found.charge)]
    return wafers(charge, np.full(len(charge), label, np.uint8))
