"""What the simulated run computes: its graph, source and chain of stages, whose models change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sluice.pipeline.config.graph_file import GraphConfig, parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.schema import (
    DECISION,
    EVENT_ID,
    OUTCOME,
    T_EVENT,
    T_INGEST,
    Array,
    Column,
    Schema,
)
from sluice.pipeline.execution.crash_search import RefusedBatch
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.sources.base import NONE, UNLIMITED, Available, Losses, now_for
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.segment_state import SegmentState

VALUE = Column("value", "uint64")
INPUTS = Schema((EVENT_ID, T_INGEST, VALUE))
OUTPUTS = Schema((EVENT_ID, VALUE))
#: Events of a full batch.
BATCH_EVENTS = 6
#: Name of all models; they differ in their versions.
MODEL = "simulated"

_GRAPH = """
[graph]
name = "simulated"
batch_events = {events}
window = 3
[source]
use = "simulated"
[sink]
use = "simulated"
[workers]
restarts = 100000
hang_timeout = "3 s"
stall_timeout = "40 s"
listen = "tcp://127.0.0.1:1"
results = "tcp://127.0.0.1:2"
"""


def make_graph(segments: int, workers: int) -> Graph:
    """Return a graph of one or two segments, with local workers in the first, and in the last."""
    text = _GRAPH.format(events=BATCH_EVENTS)
    if segments == 1:
        text += f"compute = {workers}\n"
    for segment in range(segments if segments > 1 else 0):
        text += f'[[workers.chain]]\nstages = ["s{segment}"]\ncompute = {workers}\n'
    text += "".join(f'[[stage]]\nuse = "simulated"\nname = "s{s}"\n' for s in range(segments))
    return graph_of(parse_graph(text, "simulated"))


def graph_of(config: GraphConfig) -> Graph:
    """Return the graph of a graph file."""
    stages: Any = tuple(
        SimulatedStage(part.name, part.options.get("version", 0)) for part in config.stages
    )
    return Graph(
        config=config, stages=stages, monitors=(), shadows=(), joins=(), inputs=INPUTS,
        outputs=OUTPUTS,
    )  # fmt: skip


class SimulatedStage:
    """The stage of a segment: its name, and the version of the model with which it starts."""

    def __init__(self, name: str, version: int) -> None:
        self.name, self.version = name, version

    def model_info(self) -> dict[str, str]:
        """Return what identifies the model."""
        version = str(self.version)
        return {
            "name": MODEL, "version": version, "sha256": sha256_of(self.version), "backend": "none"
        }  # fmt: skip

    def backends(self) -> tuple[str, ...]:
        """Return that any backend can run it."""
        return ()


def sha256_of(version: int) -> str:
    """Return what takes the place of the hash of a model file."""
    return f"hash of {version}"


def values_of(ids: Array, salt: int) -> Array:
    """Return the column `value` of events, which tells the runs apart."""
    return ids * np.uint64(1_000_003) + np.uint64(salt)


def processed(values: Array, versions: Sequence[int]) -> Array:
    """Return the column `value` after all segments, whose models have these versions."""
    for segment, version in enumerate(versions):
        values = values * np.uint64(3) + np.uint64(segment + 1000 * version)
    return values


class SimulatedSource:
    """A file of events with the numbers 1 to `events`."""

    schema = Schema((EVENT_ID, T_EVENT, T_INGEST, VALUE))
    socket = None
    corruption = None

    def __init__(self, events: int, salt: int) -> None:
        self.expected, self._salt, self._read = events, salt, 0

    @property
    def exhausted(self) -> bool:
        """Whether all events were read."""
        return self._read == self.expected

    def available(self) -> Available:
        """Return that there is a full batch, until all events were read."""
        return NONE if self.exhausted else UNLIMITED

    def read(self, max_events: int) -> EventBatch | None:
        """Return the next batch."""
        events = min(max_events, self.expected - self._read)
        if not events:
            return None
        ids = np.arange(self._read + 1, self._read + 1 + events, dtype=np.uint64)
        self._read += events
        columns = {
            "event_id": ids, "t_ingest": now_for(events), "value": values_of(ids, self._salt)
        }  # fmt: skip
        return EventBatch(columns, events, 0)

    def stop(self) -> None:
        """Read no more."""
        self.expected = self._read

    def losses(self) -> Losses:
        """Return that nothing was lost."""
        return Losses()


class SimulatedChain:
    """The stage of one segment: a new value for each event, that depends on the model.

    It keeps the models of two epochs, as a stage that runs models does.
    """

    service_s = (((1, 0.001), (BATCH_EVENTS, 0.002)),)

    def __init__(self, graph: Graph, *_: Any) -> None:
        self._segment = graph.segment
        self._names = graph.outputs.names
        (stage,) = graph.stages
        self.stage, self._versions = stage.name, {0: stage.version}  # type: ignore[attr-defined]

    def prepare(self, stage: str, epoch: int, version: int) -> None:
        """Use another model from `epoch` on, if this chain has the stage."""
        versions = {known: before for known, before in self._versions.items() if known < epoch}
        if stage == self.stage:
            current = max(versions)
            versions = {current: versions[current], epoch: version}
        self._versions = versions

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def run(
        self, batch: EventBatch, _: int, rung: int, epoch: int, __: SegmentState, search: object
    ) -> tuple[EventBatch, BatchSummary]:
        """Return the kept events, which are all, and the summary."""
        counts = np.zeros(len(Outcome), np.int64)
        refused = isinstance(search, RefusedBatch)
        counts[Outcome.FAILED if refused else Outcome.ACCEPTED] = batch.events
        ids = batch["event_id"]
        record = pack_batch_record(batch.seq, ids, counts.tolist(), epoch, rung)
        kept = EventBatch(
            {"event_id": ids.copy(), "value": self._value(batch, epoch)}, batch.events, batch.seq
        )
        return kept, BatchSummary(counts.tobytes(), bytes(512), 1, [], record)

    def run_segment(
        self, batch: EventBatch, _: int, __: int, epoch: int, state: SegmentState, ___: object
    ) -> tuple[EventBatch, SegmentState]:
        """Return the batch for the next segment, and its state."""
        columns = {
            **batch.columns, "value": self._value(batch, epoch),
            OUTCOME.name: OUTCOME.empty(batch.events), DECISION.name: DECISION.empty(batch.events),
        }  # fmt: skip
        columns = {name: np.array(columns[name]) for name in self._names}
        return EventBatch(columns, batch.events, batch.seq), state

    def version(self, epoch: int) -> int:
        """Return the version of the model that processes batches of an epoch."""
        return self._versions[max(known for known in self._versions if known <= epoch)]

    def _value(self, batch: EventBatch, epoch: int) -> Array:
        added = self._segment + 1000 * self.version(epoch)
        return batch["value"] * np.uint64(3) + np.uint64(added)
