"""What differs for a worker beside ingest and for one on another host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import T_INGEST
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.run_messages import Data
from sluice.pipeline.transport.segment_state import SegmentState
from sluice.pipeline.transport.socket import Socket

from .process_spec import ProcessSpec

#: What a worker has found about a batch.
Found = TypeVar("Found", SegmentState, BatchSummary)


class WorkerLink(Protocol):
    """Where a worker runs."""

    def meters(self, graph: Graph) -> MeterBlock:
        """Return where it counts."""

    def outlet(self) -> Socket:
        """Return the way to the sink."""

    def heartbeat_payload(self) -> list[bytes]:
        """Return the payload of a heartbeat."""

    def hear(self) -> None:
        """Note that ingest has spoken."""

    def is_lost(self) -> bool:
        """Whether ingest is gone."""

    def localise(
        self, batch: EventBatch, data: Data, carry: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return a batch in this host's time, since when it waits, and its carry."""

    def globalise(self, batch: EventBatch, found: Found) -> tuple[EventBatch, Found]:
        """Return what came of a batch in ingest's time."""


class LocalLink:
    """Beside ingest: its child, with its clock and its memory."""

    def __init__(self, spec: ProcessSpec) -> None:
        self._spec = spec

    def meters(self, graph: Graph) -> MeterBlock:
        """Return memory that ingest reads too."""
        path = Path(self._spec.meters)
        return MeterBlock(*graph.meter_names(), path, shadows=graph.shadow_names())

    def outlet(self) -> Socket:
        """Return a Unix socket."""
        return Socket(self._spec.outlet, self._spec.name)

    def heartbeat_payload(self) -> list[bytes]:
        """Return nothing: being heard is enough."""
        return []

    def hear(self) -> None:
        """Nothing to note."""

    def is_lost(self) -> bool:
        """Whether the parent process is another."""
        return self._spec.orphaned()

    def localise(
        self, batch: EventBatch, data: Data, carry: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return all as it is: the batch waits since it was sent."""
        return batch, data.t_sent, carry

    def globalise(self, batch: EventBatch, found: Found) -> tuple[EventBatch, Found]:
        """Return all as it is."""
        return batch, found


class RemoteLink:
    """On another host: with a clock of its own, heard by messages alone.

    Parameters
    ----------
    spec
        What to run.
    keys
        For the way to the sink.
    ahead_ns
        What this host's CLOCK_MONOTONIC is ahead of ingest's, by CLOCK_TAI.
    silence_s
        A longer silence of ingest means that it is gone.
    """

    def __init__(
        self, spec: ProcessSpec, keys: ClientAuth | None, ahead_ns: int, silence_s: float
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._ahead_ns = ahead_ns
        self._silence_s = silence_s
        self._heard_s = time.monotonic()
        self._block: MeterBlock | None = None

    def meters(self, graph: Graph) -> MeterBlock:
        """Return memory of this process; heartbeats carry it."""
        self._block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        return self._block

    def outlet(self) -> Socket:
        """Return a TCP socket."""
        return Socket(self._spec.outlet, self._spec.name, security=self._keys)

    def heartbeat_payload(self) -> list[bytes]:
        """Return the meters."""
        return [] if self._block is None else [self._block.rows.tobytes()]

    def hear(self) -> None:
        """Note the time."""
        self._heard_s = time.monotonic()

    def is_lost(self) -> bool:
        """Raise RunError if nothing was heard for too long."""
        if time.monotonic() - self._heard_s > self._silence_s:
            raise RunError(
                f"nothing heard of ingest for {self._silence_s:g} s",
                hint="the run has ended without a word, or the network is cut; join again",
            )
        return False

    def localise(
        self, batch: EventBatch, data: Data, carry: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return all in this host's time; the batch waits from now on: the network is no stage."""
        if carry.started_ns:
            carry = replace(carry, started_ns=carry.started_ns + self._ahead_ns)
        return self._later(batch, self._ahead_ns), time.monotonic_ns(), carry

    def globalise(self, batch: EventBatch, found: Found) -> tuple[EventBatch, Found]:
        """Return all in ingest's time."""
        back = -self._ahead_ns
        if isinstance(found, SegmentState):
            return self._later(batch, back), replace(found, started_ns=found.started_ns + back)
        return self._later(batch, back), replace(found, t_decided=found.t_decided + back)

    def _later(self, batch: EventBatch, by_ns: int) -> EventBatch:
        name = T_INGEST.name
        return batch.with_columns(**{name: batch[name] + by_ns}) if name in batch else batch
