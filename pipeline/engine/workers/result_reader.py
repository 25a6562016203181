"""Results as the sink receives them: verified by their token, then unpacked."""

from __future__ import annotations

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.journal import batch_record
from sluice.pipeline.journal.commit import BatchResult
from sluice.pipeline.transport.batch_summary import BatchSummary, unpack_summary
from sluice.pipeline.transport.codec import Codec
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import Result

from .batch_token import Assignment, TokenKey
from .shared_slots import SharedSlots


class ResultReader:
    """Reads RESULT messages, and refuses those that answer no batch of this run.

    Parameters
    ----------
    run
        Run number.
    key
        Key of the run's tokens.
    segment
        Last segment of the chain, whose workers send results to the sink.
    codec
        Codec of the kept events.
    slots
        Shared-memory slots of the run.
    """

    def __init__(
        self, run: int, key: TokenKey, segment: int, codec: Codec, slots: SharedSlots
    ) -> None:
        self._run, self._key, self._segment = run, key, segment
        self._codec, self._slots = codec, slots

    def verify(self, header: Header) -> Result:
        """Return the message with this header.

        Raises
        ------
        ProtocolError
            If it is no RESULT, or if its token is not that of the batch which it claims to answer.
        """
        if header.kind != Kind.RESULT:
            raise ProtocolError(f"expected RESULT, got {Kind(header.kind).name}")
        result, run, number = Result.from_header(header), header.run, header.source
        assignment = Assignment(
            result.seq, result.processed_events, number, result.epoch, self._segment, result.rung
        )
        if run != self._run or result.token != self._key.token(assignment):
            raise ProtocolError(
                f"batch {result.seq}: expected the token of a batch of run {self._run}, "
                f"got a result of session {number:08x} of run {run}"
            )
        return result

    def unpack(self, result: Result, payload: list[memoryview], *, remote: bool) -> BatchResult:
        """Return the content of a verified result; that of a remote worker is checked.

        Raises
        ------
        ProtocolError
            If the payload is not that of a result, or has other events than the batch.
        """
        if not 1 <= len(payload) <= 2:
            raise ProtocolError(f"batch {result.seq}: expected 2 or 3 frames")
        if remote:
            check_remote_result(result, unpack_summary(payload[0]), len(payload))
        kept = EventBatch({}, 0, result.seq)
        if result.slot is not None:
            kept = self._slots.batch(result.slot, -1, result.events, result.seq)
        elif len(payload) == 2:
            kept = self._codec.unpack(payload[1], result.events, result.seq)
        return BatchResult(result.seq, result.processed_events, kept, payload[0])


def check_remote_result(result: Result, summary: BatchSummary, frames: int) -> None:
    """Check that a result of a remote worker and its summary agree with the batch.

    Parameters
    ----------
    result
        The result, verified.
    summary
        Its summary.
    frames
        Number of its payload frames.

    Raises
    ------
    ProtocolError
        If they do not.
    """
    events = result.processed_events
    record = batch_record.unpack(summary.batch_record)
    expected = [(result.seq, events, result.epoch, result.rung)]
    if record[["seq", "events", "epoch", "rung"]].tolist() != expected:
        raise ProtocolError(f"batch {result.seq}: expected a batch record of {expected[0]}")
    counts = np.frombuffer(summary.counts, np.int64)
    if counts.min() < 0 or counts.sum() != events or result.events > events:
        raise ProtocolError(f"batch {result.seq}: expected counts of its {events} events")
    rows = [row for flag in summary.flags for row in flag.rows]
    if rows and not 0 <= min(rows) <= max(rows) < events:
        raise ProtocolError(f"batch {result.seq}: expected flags of its {events} events")
    if result.slot is not None or (frames == 2) != (result.events > 0):
        raise ProtocolError(f"batch {result.seq}: expected its {result.events} kept events")
