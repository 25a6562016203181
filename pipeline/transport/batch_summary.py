"""Summaries of processed batches: payloads of RESULT and ACK."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError


class BatchSummary(msgspec.Struct, array_like=True):
    """Outcome of one batch, beside the events that are kept.

    Attributes
    ----------
    counts
        Number of events of each `Outcome`, int64; the index is the outcome's number.
    paths
        Number of events with each bit of the decision word set, int64.
    t_decided
        Time when the last stage ended, ns of CLOCK_MONOTONIC.
    flags
        Events without a decision of the menu, with reasons.
    batch_record
        Packed record of the events that were processed together, which the journal keeps.
    """

    counts: bytes
    paths: bytes
    t_decided: int
    flags: list[Flag] = []
    batch_record: bytes = b""


_summary_encoder = msgspec.msgpack.Encoder()
#: Sizes of `counts` and `paths`: an int64 for each outcome, and for each bit of the decision word.
_COUNT_BYTES = (8 * len(Outcome), 8 * 64)
_summary_decoder = msgspec.msgpack.Decoder(BatchSummary)
_summaries_decoder = msgspec.msgpack.Decoder(list[BatchSummary])
_packed_summaries_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])


def pack_summary(summary: BatchSummary) -> bytes:
    """Return a summary as MessagePack: the first payload frame of a RESULT to the sink."""
    return _summary_encoder.encode(summary)


def unpack_summary(frame: memoryview | bytes) -> BatchSummary:
    """Return the summary in a RESULT's first frame, or raise ProtocolError."""
    try:
        summary = _summary_decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"summary: {error}") from error
    _check_counts(summary)
    return summary


def join_summaries(packed: Sequence[memoryview | bytes]) -> bytes:
    """Return packed summaries as one MessagePack array, the payload of an ACK."""
    return _summary_encoder.encode([msgspec.Raw(summary) for summary in packed])


def merge_acks(payloads: Sequence[bytes]) -> bytes:
    """Return one payload for several ACKs whose batches follow each other."""
    if len(payloads) == 1:
        return payloads[0]
    return join_summaries(
        [raw for payload in payloads for raw in _packed_summaries_decoder.decode(payload)]
    )


def unpack_summaries(frame: memoryview | bytes) -> list[BatchSummary]:
    """Return the summaries of an ACK, or raise ProtocolError."""
    try:
        summaries = _summaries_decoder.decode(frame)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"summaries: {error}") from error
    for summary in summaries:
        _check_counts(summary)
    return summaries


def _check_counts(summary: BatchSummary) -> None:
    if (len(summary.counts), len(summary.paths)) != _COUNT_BYTES:
        raise ProtocolError(
            f"summary: expected counts of {_COUNT_BYTES} bytes, "
            f"got {len(summary.counts)} and {len(summary.paths)}"
        )
