"""Batch records: which events were processed together, as recordings keep it.

Every batch has one packed record, also a batch without kept events, so that a replay can divide its
input at the same events and process the same batches again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from sluice.kernels.hashing import order_digest
from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.schema import Array

#: Outcomes that an event of a batch may have, in the order of the counts in the record.
DECIDED_OUTCOMES = (
    Outcome.ACCEPTED, Outcome.REJECTED, Outcome.PRESCALED, Outcome.INVALID, Outcome.FAILED,
)  # fmt: skip
#: Sequence number of the batch; id of its first event; hash of all event ids in order; number of
#: events, and by outcome; epoch of the models; rung of the ladder.
BATCH_RECORD_DTYPE = np.dtype(
    [("seq", "<u8"), ("first", "<u8"), ("ids", "<u8"), ("events", "<u4"),
     *((outcome.name.lower(), "<u4") for outcome in DECIDED_OUTCOMES),
     ("epoch", "<u4"), ("rung", "u1")]
)  # fmt: skip
#: The same layout for `struct`, which packs a single record faster than NumPy.
_LAYOUT = struct.Struct("<QQQI5IIB")


def pack_batch_record(seq: int, ids: Array, counts: Sequence[int], epoch: int, rung: int) -> bytes:
    """Return the packed record of one batch.

    Parameters
    ----------
    seq
        Sequence number of the batch in the run.
    ids
        Event ids of the batch, uint64 (N,).
    counts
        Number of its events by `Outcome`; the index is the number of the outcome.
    epoch, rung
        Epoch of the models and rung of the ladder that processed it.
    """
    first = int(ids[0]) if len(ids) else 0
    decided = [counts[outcome] for outcome in DECIDED_OUTCOMES]
    return _LAYOUT.pack(seq, first, order_digest(ids), len(ids), *decided, epoch, rung)


def record_rung(packed: bytes) -> int:
    """Return the rung in the record of one batch; 0 for an empty record."""
    return packed[-1] if packed else 0


def record_epoch(packed: bytes) -> int:
    """Return the epoch in the record of one batch; 0 for a record of another length."""
    return int(_LAYOUT.unpack(packed)[-2]) if len(packed) == _LAYOUT.size else 0


def record_first_id(packed: bytes) -> int:
    """Return the first event id in the record of one batch; 0 for a record of another length."""
    return int(_LAYOUT.unpack(packed)[1]) if len(packed) == _LAYOUT.size else 0


def unpack(packed: bytes) -> Array:
    """Return the records in `packed`, of dtype `BATCH_RECORD_DTYPE`, without an incomplete one."""
    return np.frombuffer(packed, BATCH_RECORD_DTYPE, len(packed) // BATCH_RECORD_DTYPE.itemsize)
