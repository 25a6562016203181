"""Format of a file, found by its content; its name never decides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from sluice.pipeline.core.errors import DataError

from .arrow import is_foreign

_HDF5 = b"\x89HDF\r\n\x1a\n"
#: First bytes of a file to the source that reads it.
_MAGIC = {
    b"ARROW1": "arrow",
    b"PAR1": "parquet",
    b"root": "root",
    _HDF5: "hdf5",
    b"\xff\xff\xff\xff": "arrow",
}
#: First bytes of files that are known, but read by no source: what they are, and what to do.
_OTHER = {
    b"FEA1": ("a Feather file of version 1", "write it as Arrow IPC: version 2"),
    b"PARE": ("an encrypted Parquet file", "decrypt it"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it: gunzip FILE"),
    b"BZh": ("compressed by bzip2", "unpack it: bunzip2 FILE"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it: unxz FILE"),
    b"\x28\xb5\x2f\xfd": ("compressed by Zstandard", "unpack it: unzstd FILE"),
    b"PK\x03\x04": ("a ZIP archive (.npz, .xlsx)", "write its arrays as Parquet"),
    b"\x93NUMPY": ("a NumPy file", "write it as Parquet"),
    b"SQLite format 3": ("an SQLite database", "write its tables as Parquet"),
    b"\xff\xfe": ("text in UTF-16", "write it in UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "write it in UTF-8"),
    b"\x0e\x03\x13\x01": ("an HDF4 file", "convert it by h4toh5"),
    b"CDF": ("a netCDF file of version 3", "convert it by nccopy -k 4"),
}
_HEAD_BYTES = 4096
#: What follows such letters in a file of text, whose first name begins with them: PARENT_ID.
_TEXT = re.compile(rb"[\t\r\n -~]+")


def detect_format(path: Path) -> str | None:
    """Return the name of the source that reads a file: arrow, csv, hdf5, parquet, root, recording.

    Returns
    -------
    str or None
        The name; None if the content is that of no known format.

    Raises
    ------
    DataError
        If the file cannot be opened, or has another format, which the message names.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            user_block = _has_user_block(file, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot open: {error.strerror}") from error
    found = next((use for magic, use in _MAGIC.items() if _begins(head, magic)), None)
    if found == "arrow" and not is_foreign(path):
        return "recording"
    if found or user_block:
        return found or "hdf5"
    require_known(path, head)
    return "csv" if _is_text(head) else None


def require_known(path: Path, head: bytes) -> None:
    """Raise DataError if a file begins as one of a format that no source reads."""
    for magic, (what, remedy) in _OTHER.items():
        if _begins(head, magic):
            raise DataError(f"{path}: expected a table, got a file that is {what}", remedy)


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether a file has the first bytes of a format; letters alone may begin a text as well."""
    rest = head[len(magic) : len(magic) + 12]
    return head.startswith(magic) and not (magic.isalnum() and _TEXT.fullmatch(rest))


def _has_user_block(file: BinaryIO, size: int) -> bool:
    """Whether HDF5's signature is behind a block of the user's: at 512 bytes, 1024, and so on."""
    place = 512
    while place < size:
        file.seek(place)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        place *= 2
    return False


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    text = head.decode("utf-8-sig", errors="replace")
    return text.count("\N{REPLACEMENT CHARACTER}") <= len(text) // 10 and bool(text.strip())
