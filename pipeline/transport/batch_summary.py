"""Summaries of processed batches: payloads of RESULT and ACK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from sluice.pipeline.core.batch import Flag, Outcome
from sluice.pipeline.core.errors import ProtocolError

from .protocol import MAX_SUMMARY_BYTES


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
    t_decided: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    flags: list[Flag] = []
    batch_record: bytes = b""


#: Bytes of a MessagePack array before its elements, at most.
_ARRAY_BYTES = 5
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


def merge_acks(
    acks: Sequence[tuple[int, bytes]], max_bytes: int = MAX_SUMMARY_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Yield number of batches and payload of as few ACKs as can hold those of `acks`.

    Parameters
    ----------
    acks
        Number of batches and payload of each ACK; their batches follow each other.
    max_bytes
        Largest payload to yield, bytes; a single summary is always smaller.
    """
    if len(acks) == 1 and len(acks[0][1]) <= max_bytes:
        yield acks[0]
        return
    group: list[msgspec.Raw] = []
    size = _ARRAY_BYTES
    for _, payload in acks:
        for summary in _packed_summaries_decoder.decode(payload):
            length = memoryview(summary).nbytes
            if group and size + length > max_bytes:
                yield len(group), _summary_encoder.encode(group)
                group, size = [], _ARRAY_BYTES
            group.append(summary)
            size += length
    yield len(group), _summary_encoder.encode(group)


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
