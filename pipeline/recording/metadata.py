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
#: Which file of a recording in parts this is.
PART = b"sluice.part"
#: In the end-of-run record of a part: the name of the next.
CONTINUED = "continued"

Info = dict[str, Any]
Metadata = Mapping[bytes, bytes]


class FilePart(Struct, frozen=True):
    """Which file of a recording in parts a file is.

    Attributes
    ----------
    number
        From 1.
    events
        In all parts before it.
    """

    number: int
    events: int


def part_of(metadata: Metadata | None) -> FilePart | None:
    """Return which part a stream is by its schema's metadata; None where it is no part."""
    try:
        return msgspec.json.decode((metadata or {}).get(PART, b"null"), type=FilePart | None)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def checksum(metadata: Metadata, columns: Iterable[Any]) -> bytes:
    """Return the checksum of a record batch: 16 hexadecimal digits of XXH3-64.

    Parameters
    ----------
    metadata
        Of the batch; `SEQ`, `ROWS`, `COMMIT` and `EOR` count, where they are, in this order.
    columns
        The bytes of each column, in the schema's order.
    """
    digest = xxhash.xxh3_64()
    for key in (SEQ, ROWS, COMMIT, EOR):
        digest.update(metadata.get(key, b""))
    for column in columns:
        digest.update(column)
    return digest.hexdigest().encode()
