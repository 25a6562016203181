"""Connection of a worker to ingest and sink, on the same host or from another one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import T_INGEST
from sluice.pipeline.execution.crash_search import CrashSearch, RefusedBatch, Search
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import Data
from sluice.pipeline.transport.segment_state import SegmentState
from sluice.pipeline.transport.socket import Socket

from .process_spec import ProcessSpec

#: Type of a result beside the columns: segment state between segments, batch summary to the sink.
Result = TypeVar("Result", SegmentState, BatchSummary)


class WorkerLink(Protocol):
    """Connection of a worker to ingest and sink, with the offset between their clocks."""

    #: Whether messages to ingest may be lost while the process runs.
    may_lose_messages: bool

    def meters(self, graph: Graph) -> MeterBlock:
        """Return the meter block in which the worker counts."""

    def connect_sink(self) -> Socket:
        """Return a socket connected to the sink."""

    def heartbeat(self) -> list[Any]:
        """Return header and payload frames of a heartbeat."""

    def on_message(self) -> None:
        """Record that a message of ingest has arrived."""

    def crash_search(self, data: Data, segment: int) -> Search | None:
        """Return the search for events that end their worker; None if there is none."""

    def is_lost(self) -> bool:
        """Whether ingest has exited; RunError if it timed out."""

    def localise(
        self, batch: EventBatch, data: Data, state: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return a batch and its segment state in the clock of this host.

        The number between them is the time since which the batch waits, ns of CLOCK_MONOTONIC.
        """

    def globalise(self, batch: EventBatch, result: Result) -> tuple[EventBatch, Result]:
        """Return a result batch and its summary or segment state in the clock of ingest."""


class LocalLink:
    """Link of a worker on the host of ingest: a child of ingest, same clock, shared memory."""

    may_lose_messages = False

    def __init__(self, spec: ProcessSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.meters_path).parent

    def meters(self, graph: Graph) -> MeterBlock:
        """Return a meter block in a file that ingest maps too."""
        path = Path(self._spec.meters_path)
        return MeterBlock(*graph.meter_names(), path, shadows=graph.shadow_names())

    def connect_sink(self) -> Socket:
        """Return a socket connected to the sink by a Unix domain socket."""
        return Socket(self._spec.sink_endpoint, self._spec.identity)

    def heartbeat(self) -> list[Any]:
        """Return a header only: ingest reads the meters from shared memory."""
        return [Header(Kind.HEARTBEAT)]

    def on_message(self) -> None:
        """Do nothing: `is_lost` compares the parent process id instead."""

    def crash_search(self, data: Data, segment: int) -> Search | None:
        """Return the search for the batch if ingest asks for it; its notes outlive this process."""
        return CrashSearch(self._folder / f"search-{data.seq}-{segment}") if data.search else None

    def is_lost(self) -> bool:
        """Whether the parent process is another one than at the start."""
        return self._spec.is_orphaned()

    def localise(
        self, batch: EventBatch, data: Data, state: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return batch and state unchanged; the batch waits since it was sent."""
        return batch, data.t_sent, state

    def globalise(self, batch: EventBatch, result: Result) -> tuple[EventBatch, Result]:
        """Return batch and result unchanged."""
        return batch, result


class RemoteLink:
    """Link of a worker on another host: a clock of its own, only messages in common.

    Parameters
    ----------
    spec
        Start-up parameters of the worker.
    keys
        CURVE keys for the connection to the sink; None without encryption.
    clock_offset_ns
        CLOCK_MONOTONIC of this host minus that of ingest, compared by way of CLOCK_TAI, ns.
    timeout_s
        Time without a message after which ingest counts as lost, s.
    """

    may_lose_messages = True  # where a connection breaks

    def __init__(
        self, spec: ProcessSpec, keys: ClientAuth | None, clock_offset_ns: int, timeout_s: float
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._clock_offset_ns = clock_offset_ns
        self._timeout_s = timeout_s
        #: Times of the last message of ingest, and of the last look for one.
        self._heard_s = self._looked_s = time.monotonic()
        self._block: MeterBlock | None = None

    def meters(self, graph: Graph) -> MeterBlock:
        """Return a meter block in memory of this process; heartbeats carry its content."""
        self._block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        return self._block

    def connect_sink(self) -> Socket:
        """Return a socket connected to the sink by TCP."""
        return Socket(self._spec.sink_endpoint, self._spec.identity, security=self._keys)

    def heartbeat(self) -> list[Any]:
        """Return a header and the content of the meter block."""
        meters = [] if self._block is None else [self._block.rows.tobytes()]
        return [Header(Kind.HEARTBEAT), *meters]

    def on_message(self) -> None:
        """Record the time of the message."""
        self._heard_s = self._looked_s = time.monotonic()

    def crash_search(self, data: Data, segment: int) -> Search | None:
        """Return what fails the batch if ingest asks for it: no notes would outlive the worker."""
        return RefusedBatch() if data.search else None

    def is_lost(self) -> bool:
        """Return False, or raise RunError if no message came for longer than the timeout.

        A process that was suspended for so long has not looked: what has come meanwhile is read
        first.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s > self._timeout_s:
            self._heard_s = now_s
        self._looked_s = now_s
        if now_s - self._heard_s > self._timeout_s:
            raise RunError(
                f"no message from ingest for {self._timeout_s:g} s",
                hint="the engine has exited or the network is interrupted; join again",
            )
        return False

    def localise(
        self, batch: EventBatch, data: Data, state: SegmentState
    ) -> tuple[EventBatch, int, SegmentState]:
        """Return times in the clock of this host.

        The batch waits from now on: time in the network is not counted as time in a stage.
        """
        if state.started_ns:
            state = replace(state, started_ns=state.started_ns + self._clock_offset_ns)
        return self._shift_times(batch, self._clock_offset_ns), time.monotonic_ns(), state

    def globalise(self, batch: EventBatch, result: Result) -> tuple[EventBatch, Result]:
        """Return times in the clock of ingest."""
        back = -self._clock_offset_ns
        if isinstance(result, SegmentState):
            return self._shift_times(batch, back), replace(
                result, started_ns=result.started_ns + back
            )
        return self._shift_times(batch, back), replace(result, t_decided=result.t_decided + back)

    def _shift_times(self, batch: EventBatch, by_ns: int) -> EventBatch:
        name = T_INGEST.name
        return batch.with_columns(**{name: batch[name] + by_ns}) if name in batch else batch
