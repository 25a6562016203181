"""The journal of a run: commit records, which say what each record batch of a recording settles.

From the last one a sink, or a whole run, that was killed goes on: what was committed, and how the
ledger stood.
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
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Of the decision word.
_Bit = Annotated[int, Meta(ge=0, lt=64)]
#: Summaries that one record settles: an ACK with far more than a run ever sends.
_MOST_BYTES = 1 << 28


class BatchResult(NamedTuple):
    """What came of one batch.

    Attributes
    ----------
    seq
        Its number.
    judged
        Its events.
    kept
        Those that the sink wants.
    summary
        What to account, packed.
    """

    seq: int
    judged: int
    kept: EventBatch
    summary: memoryview | bytes


class ModelSwapRecord(msgspec.Struct, frozen=True):
    """A swap of a model, as the journal has it.

    Attributes
    ----------
    epoch
        That begins with it.
    stage, name, version, sha256
        The stage, and its model from then on.
    seq, first_event
        The first batch that was judged in the epoch, or a later one, and its first event.
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


class CommitRecord(msgspec.Struct, frozen=True):
    """A commit record: what one record batch settles, and all before it.

    Attributes
    ----------
    next
        Number of the first batch that is not settled.
    judged, kept
        Of each batch that this record settles: its events, and those that were kept.
    counts
        Events by `Outcome`, of all settled batches of the run.
    paths
        Events by bit of the decision word, of all settled batches; bits without events left out.
    written
        Events kept of all settled batches.
    summaries
        The summaries of the batches that this record settles, as in ACK, compressed by zlib.
    epoch
        Of the models that judged the last settled batch.
    models
        Stage to name, version and sha256 of its model, where it is not the one the run began with.
    swaps
        Those whose first batch this record settles.
    """

    next: _Count = 0
    judged: list[_Count] = []
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
        """Number of the first batch that this record settles."""
        return self.next - len(self.judged)

    @property
    def events(self) -> int:
        """Events of all settled batches: where in the source the run stands."""
        return sum(self.counts)

    def payload(self) -> bytes:
        """Return the ACK's payload once more; DataError if that is none, or too large for one."""
        try:
            inflate = zlib.decompressobj()
            payload = inflate.decompress(self.summaries, _MOST_BYTES)
        except zlib.error as error:
            raise DataError(f"commit record of batch {self.first}: summaries: {error}") from error
        if not inflate.eof:
            raise DataError(
                f"commit record of batch {self.first}: summaries: expected them whole in at most "
                f"{_MOST_BYTES} bytes, got more, or a torn one"
            )
        return payload

    def unpacked(self) -> list[BatchSummary]:
        """Return the summaries of the batches that this record settles."""
        return unpack_summaries(self.payload())

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return msgspec.json.encode(self)


def read_commit(text: bytes, where: str) -> CommitRecord:
    """Return the commit record in `text`; DataError naming `where` if it is none."""
    try:
        commit = msgspec.json.decode(text, type=CommitRecord)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a commit record: {error}") from error
    if commit.first < 0 or len(commit.kept) != len(commit.judged):
        raise DataError(
            f"{where}: not a commit record: expected as many numbers of kept as of judged events, "
            f"of batches up to {commit.next}, got {len(commit.kept)} and {len(commit.judged)}"
        )
    return commit


class Journal:
    """Adds up what is settled.

    Parameters
    ----------
    last
        Where an earlier life of the run stood.
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
        self._announced: dict[int, ModelSwapRecord] = {}

    def register_swap(self, swap: ModelSwapRecord) -> None:
        """Note what a swap is, before the first batch of its epoch."""
        self._announced[swap.epoch] = swap

    def knows_epoch(self, epoch: int) -> bool:
        """Whether all swaps up to an epoch were announced."""
        return epoch <= self._epoch or (epoch in self._announced and self.knows_epoch(epoch - 1))

    def append(self, results: Sequence[BatchResult]) -> tuple[CommitRecord, bytes]:
        """Return the commit record of the next batches, and the payload of their ACK."""
        swaps: list[ModelSwapRecord] = []
        for result in results:
            summary = unpack_summary(result.summary)
            swaps += self._begun(result.seq, summary.batch_record)
            self._counts += np.frombuffer(summary.counts, np.int64)
            self._paths += np.frombuffer(summary.paths, np.int64)
        kept = [result.kept.events for result in results]
        self._written += sum(kept)
        self.next += len(results)
        payload = join_summaries([result.summary for result in results])
        bits = np.flatnonzero(self._paths).tolist()
        commit = CommitRecord(
            self.next,
            [result.judged for result in results],
            kept,
            tuple(self._counts.tolist()),
            {bit: int(self._paths[bit]) for bit in bits},
            self._written,
            zlib.compress(payload, 1),
            self._epoch,
            dict(self._models),
            swaps,
        )
        return commit, payload

    def _begun(self, seq: int, composition: bytes) -> list[ModelSwapRecord]:
        """Return the swaps of which batch `seq` is the first; mostly none."""
        epoch, begun = record_epoch(composition), []
        while self._epoch < epoch:
            self._epoch += 1
            swap = self._announced.pop(self._epoch, None)
            if swap is None:
                raise DataError(
                    f"batch {seq}: judged in epoch {epoch}, but what was swapped for epoch "
                    f"{self._epoch} was never announced"
                )
            self._models[swap.stage] = swap.info()
            begun.append(replace(swap, seq=seq, first_event=record_first_id(composition)))
        return begun
