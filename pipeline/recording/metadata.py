"""Metadata that Sluice writes into Arrow streams, and the checksum over a record batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import xxhash
from msgspec import Struct

BOR, EOR = b"sluice.bor", b"sluice.eor"
SEQ, ROWS, COMMIT = b"sluice.seq", b"sluice.rows", b"sluice.commit"
CHECKSUM = b"sluice.xxh3"
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
    """Return the checksum of a record batch: 16 hexadecimal digits of XXH3-64.

    Parameters
    ----------
    metadata
        Metadata of the record batch; `SEQ`, `ROWS`, `COMMIT` and `EOR` enter, in this order.
    columns
        Buffers of each column, in the order of the schema.
    """
    digest = xxhash.xxh3_64()
    for key in (SEQ, ROWS, COMMIT, EOR):
        digest.update(metadata.get(key, b""))
    for column in columns:
        digest.update(column)
    return digest.hexdigest().encode()
