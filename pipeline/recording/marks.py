"""Metadata that Sluice writes into Arrow streams, and the checksum over a record batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import xxhash

BOR, EOR = b"sluice.bor", b"sluice.eor"
SEQ, ROWS, COMMIT = b"sluice.seq", b"sluice.rows", b"sluice.commit"
CHECKSUM = b"sluice.xxh3"

Info = dict[str, Any]
Metadata = Mapping[bytes, bytes]


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
