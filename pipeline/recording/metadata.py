"""Metadata that Sluice writes into Arrow streams, and the checksum over a record batch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import xxhash
from msgspec import Struct

from sluice.pipeline.core.errors import DataError

BOR, EOR = b"sluice.bor", b"sluice.eor"
SEQ, ROWS, COMMIT = b"sluice.seq", b"sluice.rows", b"sluice.commit"
CHECKSUM = b"sluice.xxh3"
#: Key of the `Place` of a record batch, by which the last ones are found from the end of the file.
PLACE = b"sluice.place"
_PLACE = re.compile(rb"@(\d{1,19})#(\d{1,19})")
#: Key of the `FilePart` of a file of a rotated recording.
PART = b"sluice.part"
#: Key in the end-of-run record of a file that is continued: name of the next file.
CONTINUED = "continued"

Info = dict[str, Any]
Metadata = Mapping[bytes, bytes]


class FilePart(Struct, frozen=True):
    """Position of a file in a rotated recording.

    Attributes
    ----------
    number
        Number of the file, from 1.
    events
        Number of events in all files before it.
    """

    number: int
    events: int


def part_of(metadata: Metadata | None) -> FilePart | None:
    """Return the position from the metadata of a schema; None if the recording is not rotated."""
    try:
        return msgspec.json.decode((metadata or {}).get(PART, b"null"), type=FilePart | None)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def checksum(metadata: Metadata, columns: Iterable[Any]) -> bytes:
    """Return the checksum of a record batch, or of the metadata of a schema.

    It is 16 hexadecimal digits of XXH3-64.

    Parameters
    ----------
    metadata
        Metadata of the record batch; `SEQ`, `ROWS`, `COMMIT`, `EOR` and `PLACE` enter, in this
        order. Of a schema `BOR` and `PART` enter.
    columns
        Buffers of each column, in the order of the schema.
    """
    digest = xxhash.xxh3_64()
    for key in (SEQ, ROWS, COMMIT, EOR, PLACE, BOR, PART):
        digest.update(metadata.get(key, b""))
    for column in columns:
        digest.update(column)
    return digest.hexdigest().encode()


class Place(NamedTuple):
    """Place of a record batch in its file: offset, bytes, and number, from 0.

    Examples
    --------
    >>> Place(4096, 7).encode()
    b'@4096#7'
    >>> find_places(b"...@4096#7...")
    [Place(offset=4096, number=7)]
    """

    offset: int
    number: int

    def encode(self) -> bytes:
        """Return the value of `PLACE`."""
        return b"@%d#%d" % self


def find_places(content: bytes) -> list[Place]:
    """Return whatever reads as a place in a part of a file, in the order of their offsets."""
    return sorted({Place(int(o), int(n)) for o, n in _PLACE.findall(content)})


def read_bor(metadata: Metadata, path: object) -> Info:
    """Return the begin-of-run record in the metadata of a schema; empty if it has none.

    Raises
    ------
    DataError
        If it is not a JSON object.
    """
    try:
        return msgspec.json.decode(metadata.get(BOR, b"{}"), type=Info)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: begin-of-run record: not JSON: {error}") from error


def bor_has_changed(metadata: Metadata) -> bool:
    """Whether the begin-of-run record differs from what was written."""
    return metadata.get(CHECKSUM, checksum(metadata, ())) != checksum(metadata, ())
