"""The composition of batches: which events travelled together, as recordings keep it.

One packed record a batch, also of batches of which nothing was kept, so that a replay can cut its
input at the same places and judge the same batches again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from sluice.kernels.hashing import order_digest
from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.schema import Array

#: Outcomes that a judged event may have, in the order of the record's counts.
DECIDED_OUTCOMES = (
    Outcome.ACCEPTED, Outcome.REJECTED, Outcome.PRESCALED, Outcome.INVALID, Outcome.FAILED,
)  # fmt: skip
#: Number of the batch; its first event's id, and a hash of all ids in order; how many events it
#: had and how they ended; epoch of the models and rung of the ladder that judged them.
BATCH_RECORD_DTYPE = np.dtype(
    [("seq", "<u8"), ("first", "<u8"), ("ids", "<u8"), ("events", "<u4"),
     *((outcome.name.lower(), "<u4") for outcome in DECIDED_OUTCOMES),
     ("epoch", "<u4"), ("rung", "u1")]
)  # fmt: skip
_LAYOUT = struct.Struct("<QQQI5IIB")


def pack_batch_record(seq: int, ids: Array, counts: Sequence[int], epoch: int, rung: int) -> bytes:
    """Return the packed record of one batch.

    Parameters
    ----------
    seq
        Number of the batch in the run.
    ids
        Its event ids, uint64 (N,).
    counts
        Its events by `Outcome`; the index is the outcome's number.
    epoch, rung
        Of the models, and of the ladder.
    """
    first = int(ids[0]) if len(ids) else 0
    judged = [counts[outcome] for outcome in DECIDED_OUTCOMES]
    return _LAYOUT.pack(seq, first, order_digest(ids), len(ids), *judged, epoch, rung)


def record_rung(packed: bytes) -> int:
    """Return the rung in the record of one batch."""
    return packed[-1] if packed else 0


def record_epoch(packed: bytes) -> int:
    """Return the epoch in the record of one batch."""
    return int(_LAYOUT.unpack(packed)[-2]) if len(packed) == _LAYOUT.size else 0


def record_first_id(packed: bytes) -> int:
    """Return the id of the first event in the record of one batch."""
    return int(_LAYOUT.unpack(packed)[1]) if len(packed) == _LAYOUT.size else 0


def unpack(packed: bytes) -> Array:
    """Return the records in `packed`, of dtype `FORM`; a torn one at the end is left out."""
    return np.frombuffer(packed, BATCH_RECORD_DTYPE, len(packed) // BATCH_RECORD_DTYPE.itemsize)
