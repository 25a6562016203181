"""Commit records: the batches that each record batch of a recording commits, and the sums so far.

A sink that is restarted, or a run that is resumed, goes on after the last one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.transport.batch_summary import (
    BatchSummary,
    join_summaries,
    unpack_summaries,
    unpack_summary,
)

from .batch_record import record_epoch, record_first_id

_OUTCOMES = len(Outcome)
#: Number of events, which fits int64.
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Number of a bit in a decision.
_Bit = Annotated[int, Meta(ge=0, lt=64)]
#: Upper bound on the decompressed summaries of one record, far above what a run sends in one ACK: a
#: damaged record must not take all memory.
_MAX_SUMMARIES_BYTES = 1 << 28


class BatchResult(NamedTuple):
    """Result of one batch.

    Attributes
    ----------
    seq
        Sequence number of the batch.
    events
        Number of events of the batch.
    kept
        Events of the batch for the sink.
    summary
        Packed batch summary.
    """

    seq: int
    events: int
    kept: EventBatch
    summary: memoryview | bytes


class ModelSwapRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A model swap, as the journal keeps it.

    Attributes
    ----------
    epoch
        Epoch that begins with the swap.
    stage, name, version, sha256
        Stage, and its model from this epoch on.
    seq, first_event
        Sequence number and first event id of the first batch that was processed in this epoch, or
        in a later one.
    """

    epoch: int
    stage: str
    name: str
    version: str
    sha256: str
    seq: int = 0
    first_event: int = 0

    def info(self) -> dict[str, str]:
        """Return name, version and sha256 of the model."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Batches that one record batch of a recording commits, and sums over all committed batches.

    Attributes
    ----------
    next
        Sequence number of the first batch that is not committed.
    events_by_batch, kept
        Number of events, and of kept events, of each batch that this record commits.
        `events_by_batch` is ``judged`` in the file.
    counts
        Number of events by `Outcome`, over all committed batches.
    paths
        Number of events by bit of the decision, over all committed batches; without zeros.
    written
        Number of kept events, over all committed batches.
    summaries
        Summaries of the batches that this record commits, as in an ACK, compressed with zlib.
    epoch
        Epoch of the models that processed the last committed batch.
    models
        Name, version and sha256 of the model of each stage whose model was swapped.
    swaps
        Model swaps whose first batch this record commits.
    """

    next: _Count = 0
    events_by_batch: list[_Count] = msgspec.field(default_factory=list, name="judged")
    kept: list[_Count] = []
    counts: Annotated[tuple[_Count, ...], Meta(min_length=_OUTCOMES, max_length=_OUTCOMES)] = (
        0,
    ) * _OUTCOMES
    paths: dict[_Bit, _Count] = {}
    written: _Count = 0
    summaries: bytes = b""
    epoch: Annotated[int, Meta(ge=0, lt=2**24)] = 0
    models: dict[str, dict[str, str]] = {}
    swaps: list[ModelSwapRecord] = []

    @property
    def first(self) -> int:
        """Sequence number of the first batch that this record commits."""
        return self.next - len(self.events_by_batch)

    @property
    def events(self) -> int:
        """Number of events of all committed batches, which are the first events of the source."""
        return sum(self.counts)

    def payload(self) -> bytes:
        """Return the payload of the ACK; DataError if `summaries` is damaged or too large."""
        try:
            inflate = zlib.decompressobj()
            payload = inflate.decompress(self.summaries, _MAX_SUMMARIES_BYTES)
        except zlib.error as error:
            raise DataError(f"commit record of batch {self.first}: summaries: {error}") from error
        if not inflate.eof:
            raise DataError(
                f"commit record of batch {self.first}: summaries: expected at most "
                f"{_MAX_SUMMARIES_BYTES} bytes, got more, or an incomplete stream"
            )
        return payload

    def unpacked(self) -> list[BatchSummary]:
        """Return the summaries of the batches that this record commits."""
        return unpack_summaries(self.payload())

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return msgspec.json.encode(self)


def read_commit(text: bytes, where: str) -> CommitRecord:
    """Decode a commit record; DataError with `where` if `text` is not one."""
    try:
        commit = msgspec.json.decode(text, type=CommitRecord)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a commit record: {error}") from error
    if commit.first < 0 or len(commit.kept) != len(commit.events_by_batch):
        raise DataError(
            f"{where}: not a commit record: expected `kept` and `judged` of equal length for "
            f"batches up to {commit.next}, got {len(commit.kept)} and {len(commit.events_by_batch)}"
        )
    return commit


class Journal:
    """Makes the commit records of a run.

    Parameters
    ----------
    last
        Last commit record of previous attempts of the run.

    Attributes
    ----------
    next
        Sequence number of the next batch.
    """

    def __init__(self, last: CommitRecord | None = None) -> None:
        last = last or CommitRecord()
        self.next = last.next
        self._counts = np.array(last.counts, np.int64)
        self._paths = np.zeros(64, np.int64)
        for bit, events in last.paths.items():
            self._paths[bit] = events
        self._written = last.written
        self._epoch, self._models = last.epoch, dict(last.models)
        self._registered: dict[int, ModelSwapRecord] = {}

    @property
    def counts(self) -> list[int]:
        """Number of events by `Outcome`, over all batches so far."""
        return [int(events) for events in self._counts]

    def register_swap(self, swap: ModelSwapRecord) -> None:
        """Keep a model swap for the first batch of its epoch."""
        self._registered[swap.epoch] = swap

    def knows_epoch(self, epoch: int) -> bool:
        """Whether all swaps up to an epoch were registered."""
        return epoch <= self._epoch or (epoch in self._registered and self.knows_epoch(epoch - 1))

    def append(self, results: Sequence[BatchResult]) -> tuple[CommitRecord, bytes]:
        """Return the commit record of the next batches, and the payload of their ACK."""
        swaps: list[ModelSwapRecord] = []
        for result in results:
            summary = unpack_summary(result.summary)
            swaps += self._begun_swaps(result.seq, summary.batch_record)
            self._counts += np.frombuffer(summary.counts, np.int64)
            self._paths += np.frombuffer(summary.paths, np.int64)
        kept = [result.kept.events for result in results]
        self._written += sum(kept)
        self.next += len(results)
        payload = join_summaries([result.summary for result in results])
        bits = np.flatnonzero(self._paths).tolist()
        commit = CommitRecord(
            next=self.next,
            events_by_batch=[result.events for result in results],
            kept=kept,
            counts=tuple(self._counts.tolist()),
            paths={bit: int(self._paths[bit]) for bit in bits},
            written=self._written,
            summaries=zlib.compress(payload, 1),
            epoch=self._epoch,
            models=dict(self._models),
            swaps=swaps,
        )
        return commit, payload

    def _begun_swaps(self, seq: int, batch_record: bytes) -> list[ModelSwapRecord]:
        """Return the swaps whose first batch is `seq`; none for most batches."""
        epoch, begun = record_epoch(batch_record), []
        while self._epoch < epoch:
            self._epoch += 1
            swap = self._registered.pop(self._epoch, None)
            if swap is None:
                raise DataError(
                    f"batch {seq}: processed in epoch {epoch}, but the swap that begins epoch "
                    f"{self._epoch} was not registered"
                )
            self._models[swap.stage] = swap.info()
            begun.append(replace(swap, seq=seq, first_event=record_first_id(batch_record)))
        return begun
