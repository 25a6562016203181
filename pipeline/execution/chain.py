"""A chain of stages in one process: runs batches, isolates events that fail, summarises."""

from __future__ import annotations

import time

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag
from sluice.pipeline.core.buffers import ColumnCheck
from sluice.pipeline.core.errors import DataError, DeviceLostError, RunError
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.inference.repository import Model
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.stages.base import Stage
from sluice.pipeline.stages.capabilities import PassesThrough, SwapsModel, TruncatesLists
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.segment_state import EMPTY, SegmentState

from .crash_search import Search
from .decision_record import BatchFacts
from .finite_check import finite_checks
from .isolation import (
    StageError,
    blank_failed_rows,
    describe_exception,
    isolate_failures,
    limit_flags,
)
from .monitor_runner import MonitorRunner
from .summarise import BatchSummariser
from .warm_up import measure_service_s


class Chain:
    """The stages of a graph, or of one segment of it, opened and metered, with monitors.

    Parameters
    ----------
    graph
        Graph, or segment of a graph, whose stages and monitors run.
    block
        Meters of this process: service times and waits of the stages, values of the monitors.
    keep
        Events that go on to the sink: ``accepted`` or ``all``.

    Attributes
    ----------
    service_s
        Measured at warm-up, by rung of the ladder: pairs of batch size in events and service time
        of such a batch in seconds.
    """

    def __init__(self, graph: Graph, block: MeterBlock, keep: str) -> None:
        self._graph = graph
        self._blank_outcome = np.zeros(0, np.uint8)
        self._blank_decision = np.zeros(0, np.uint64)
        self._block = block
        self._times_ns = np.zeros(len(graph.stages) + 2, np.int64)
        self._steps = [
            (stage.process, ColumnCheck(stage.provides, stage.name), before, after)
            for stage, (before, after) in zip(graph.stages, finite_checks(graph), strict=True)
        ]
        self._swaps = {stage.name: stage for stage in graph.stages if isinstance(stage, SwapsModel)}
        self._epoch = self._rung = 0
        self._monitor_runner = MonitorRunner(graph.monitors, block.monitor_meters())
        meters = block.shadow_meters()
        for shadow, meter in zip(graph.shadows, meters, strict=True):
            shadow.meter = meter
        # Shadows have a thread of their own, so that a slow one does not hold up the monitors.
        self._shadow_runner = MonitorRunner(graph.shadows, meters)
        self._summariser = BatchSummariser(graph, keep)
        self.service_s: list[list[tuple[int, float]]] = []

    def open(self) -> None:
        """Open and warm up every stage and open the monitors; if one fails, close what is open.

        The warm-up sends blank events through the chain, from one to the largest batch size, so
        that the first real batch finds compiled kernels, loaded models and touched memory. It also
        measures the service time by batch size.
        """
        max_events, inputs = self._graph.config.graph.batch_events, self._graph.inputs
        opened: list[Stage] = []
        try:
            for stage in self._graph.stages:
                stage.open(max_events)
                opened.append(stage)
            for rung in reversed(range(self._graph.rungs)):
                self._set_rung(rung)
                self.service_s.insert(0, measure_service_s(self._warm_up, inputs, max_events))
            for number, stage in enumerate(self._graph.stages):
                if isinstance(stage, TruncatesLists):  # after the warm-up, which has no real events
                    stage.set_counter(self._block.truncation_counter(number))
            self._monitor_runner.open(max_events)
            self._shadow_runner.open(max_events)
        except BaseException:
            for stage in opened:
                stage.close()
            raise

    def close(self) -> None:
        """Close every stage and monitor."""
        self._monitor_runner.close()
        self._shadow_runner.close()
        for stage in self._graph.stages:
            stage.close()

    def run(
        self,
        batch: EventBatch,
        t_ready_ns: int,
        rung: int = 0,
        epoch: int = 0,
        state: SegmentState = EMPTY,
        search: Search | None = None,
    ) -> tuple[EventBatch, BatchSummary]:
        """Process a batch in the last segment and sum it up.

        Parameters
        ----------
        batch
            Events with the columns of ``graph.inputs``.
        t_ready_ns
            Time at which the batch began to wait for this chain, CLOCK_MONOTONIC, ns.
        rung, epoch
            Rung of the ladder and epoch of the models to process the batch with.
        state
            Segment state from the segment before.
        search
            Search for the events that end their worker; None for a batch that has ended none.

        Returns
        -------
        kept, summary
            Events for the sink, with the columns of ``graph.outputs``, and the batch summary.
        """
        processed, state = self._run_stages(batch, t_ready_ns, rung, epoch, state, search)
        facts = BatchFacts(
            batch.seq, batch.events, rung, epoch, state.started_ns, time.monotonic_ns()
        )
        self._monitor_runner.offer(processed)
        self._shadow_runner.offer(processed)
        return self._summariser.summarise(processed, state.flags, facts)

    def run_segment(
        self, batch: EventBatch, t_ready_ns: int, rung: int, epoch: int, state: SegmentState,
        search: Search | None = None,
    ) -> tuple[EventBatch, SegmentState]:  # fmt: skip
        """Process a batch in a segment that is not the last; the parameters are those of `run`.

        Returns
        -------
        passed, state
            All events, with the columns of ``graph.outputs``, and the segment state for the next
            segment.
        """
        processed, state = self._run_stages(batch, t_ready_ns, rung, epoch, state, search)
        return processed.select(self._graph.outputs.names), state

    def prepare(self, stage: str, epoch: int, model: Model) -> None:
        """Prepare a stage to use another model from `epoch` on, if this chain has the stage.

        The other stages forget what an earlier swap, which was refused, has prepared for `epoch`.
        """
        for name, other in self._swaps.items():
            if name != stage:
                other.discard(epoch)
        if stage in self._swaps:
            self._swaps[stage].prepare(epoch, model)

    def _run_stages(
        self, batch: EventBatch, t_ready_ns: int, rung: int, epoch: int, state: SegmentState,
        search: Search | None,
    ) -> tuple[EventBatch, SegmentState]:  # fmt: skip
        if epoch != self._epoch:
            self._activate(epoch)
        if rung != self._rung:
            self._set_rung(rung)
        batch = self._with_blank_decision(batch)
        started_ns = time.monotonic_ns()
        try:
            if search is not None:
                processed, flags = self._isolate(batch, search)
            else:
                processed = self._process(batch, t_ready_ns)
                flags = processed.flags
        except StageError:
            processed, flags = self._isolate(batch)
        if state.flags and (failed := state.failed()):
            added = [column for join in self._graph.joins for column in join.outputs]
            processed, flags = blank_failed_rows(processed, flags, failed, added)
        if flags:
            flags = limit_flags((*state.flags, *flags), batch.events)
        return processed, SegmentState(flags or state.flags, state.started_ns or started_ns)

    def _set_rung(self, rung: int) -> None:
        """Process on another rung of the ladder from now on."""
        without_model = [stage.name for stage in self._graph.ladders if not stage.set_rung(rung)]
        menu = self._graph.decision_stage()
        if isinstance(menu, PassesThrough):
            menu.disable_paths(self._graph.derived_columns(without_model))
        self._rung = rung

    def _activate(self, epoch: int) -> None:
        for stage in self._swaps.values():
            stage.activate(epoch)
        self._epoch = epoch

    def _warm_up(self, batch: EventBatch) -> None:
        batch = self._with_blank_decision(batch)
        for stage in self._graph.stages:
            try:
                batch = stage.process(batch)
                batch.check(stage.provides, stage.name)
            except Exception as error:
                what = describe_exception(error)
                raise RunError(f"stage {stage.name!r}: cannot warm up: {what}") from error
        if not self._graph.has_next_segment:
            self._summariser.summarise(batch, (), BatchFacts(0, batch.events, 0, 0, 0, 0))

    def _process(self, batch: EventBatch, t_ready_ns: int) -> EventBatch:
        """Run every stage on a batch; `StageError` names the stage that could not."""
        times_ns = self._times_ns
        times_ns[0] = t_ready_ns
        times_ns[1] = time.monotonic_ns()
        index = 2
        not_finite: list[tuple[int, int]] = []
        try:
            for index, (process, columns, before, after) in enumerate(self._steps, 2):
                if before is not None:
                    batch, found = before.apply(batch)
                    if found:
                        not_finite.append((index - 2, found))
                done = process(batch)
                columns.check(done)
                if done.events != batch.events:
                    name = self._graph.stages[index - 2].name
                    raise DataError(
                        f"{name}: expected {batch.events} events back, got {done.events}"
                    )
                batch = done
                if after is not None:
                    batch, found = after.apply(batch)
                    if found:
                        not_finite.append((index - 2, found))
                times_ns[index] = time.monotonic_ns()
        except DeviceLostError:
            raise  # no event is the cause
        except Exception as error:  # a stage may raise anything
            raise StageError(self._graph.stages[index - 2].name, error) from error
        self._block.record_stages(batch.events, times_ns)
        for stage, events in not_finite:
            self._block.record_not_finite(stage, events)
        return batch

    def _isolate(
        self, batch: EventBatch, search: Search | None = None
    ) -> tuple[EventBatch, tuple[Flag, ...]]:
        observers = (*self._graph.monitors, *self._graph.shadows)
        names = {column.name for observer in observers for column in observer.consumes}
        added = {column.name: column for join in self._graph.joins for column in join.outputs}
        return isolate_failures(
            batch,
            lambda part: self._process(part, time.monotonic_ns()),
            names | self._summariser.needed_columns,
            added,
            search,
        )

    def _with_blank_decision(self, batch: EventBatch) -> EventBatch:
        """Return a batch of the first segment with blank outcome and decision, which are shared.

        No stage may write into them. A batch of a later segment has its own.
        """
        if self._graph.segment:
            return batch
        events = batch.events
        if len(self._blank_outcome) < events:
            self._blank_outcome = np.zeros(events, np.uint8)
            self._blank_decision = np.zeros(events, np.uint64)
        return batch.with_columns(
            outcome=self._blank_outcome[:events], decision=self._blank_decision[:events]
        )
