"""Summaries of judged batches, as a RESULT and an ACK carry them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError


class BatchSummary(msgspec.Struct, array_like=True):
    """What a worker found in one batch, beside the events that are kept.

    Attributes
    ----------
    counts
        Events by `Outcome` (index is the outcome's number), int64.
    paths
        Events by bit of the decision word, int64.
    t_decided
        When the last stage was done, ns of CLOCK_MONOTONIC.
    flags
        Events that were not judged, with reasons.
    composition
        The packed record of the batch's composition, see `composition`.
    """

    counts: bytes
    paths: bytes
    t_decided: int
    flags: list[Flag] = []
    batch_record: bytes = b""


_summary_encoder = msgspec.msgpack.Encoder()
#: Of a summary: an int64 an outcome, and one a bit of the decision word.
_COUNT_BYTES = (8 * len(Outcome), 8 * 64)
_summary_decoder = msgspec.msgpack.Decoder(BatchSummary)
_summaries_decoder = msgspec.msgpack.Decoder(list[BatchSummary])
_raws_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])


def pack_summary(summary: BatchSummary) -> bytes:
    """Return a summary as MessagePack."""
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
    """Return the payloads of ACKs that follow each other as the payload of one."""
    if len(payloads) == 1:
        return payloads[0]
    return join_summaries([raw for payload in payloads for raw in _raws_decoder.decode(payload)])


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
