"""A chain of stages in one process: runs a batch, isolates events that break a stage, sums up."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from sluice.pipeline.core.batch import EventBatch, Flag, Outcome, concatenate
from sluice.pipeline.core.buffers import ColumnCheck
from sluice.pipeline.core.errors import DataError, DeviceLostError, RunError
from sluice.pipeline.core.schema import DECISION, OUTCOME
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.inference.repository import Model
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.stages.base import PassesThrough, Stage, SwapsModel, TruncatesLists
from sluice.pipeline.transport.batch_summary import BatchSummary
from sluice.pipeline.transport.segment_state import EMPTY, SegmentState

from .decision_record import BatchFacts
from .isolation import blank_failed_rows
from .monitor_runner import MonitorRunner
from .summarise import BatchSummariser

#: A batch in which more than this many events break a stage fails as a whole.
_ISOLATE_AT_MOST = 16
#: A batch of each size warms the stages so often, a large one twice.
_WARM_TIMES, _LARGE = 5, 8192


class Chain:
    """The stages of a graph, or of a segment of it, opened and metered, with monitors beside them.

    Parameters
    ----------
    graph
        Whose stages and monitors to run; one of the segments that `cut` gives.
    block
        Service times and waits of the stages go there, and what the monitors saw.
    keep
        ``accepted`` or ``all``: which events go on to the sink.
    """

    def __init__(self, graph: Graph, block: MeterBlock, keep: str) -> None:
        self._graph = graph
        self._blank_outcome = np.zeros(0, np.uint8)
        self._blank_decision = np.zeros(0, np.uint64)
        self._block = block
        self._times = np.zeros(len(graph.stages) + 2, np.int64)
        self._steps = [
            (stage.process, ColumnCheck(stage.provides, stage.name)) for stage in graph.stages
        ]
        self._swaps = {stage.name: stage for stage in graph.stages if isinstance(stage, SwapsModel)}
        self._epoch = self._rung = 0
        self._watcher = MonitorRunner(graph.monitors, block.monitor_meters())
        meters = block.shadow_meters()
        for shadow, meter in zip(graph.shadows, meters, strict=True):
            shadow.meter = meter
        #: In a thread of their own: a slow shadow must not make monitors blind.
        self._shadower = MonitorRunner(graph.shadows, meters)
        self._tally = BatchSummariser(graph, keep)
        #: By rung: batch size and seconds that such a batch took at the warm-up.
        self.service_s: list[list[tuple[int, float]]] = []

    def open(self) -> None:
        """Open and warm every stage and open the monitors; on failure close those that were opened.

        Warming sends blank events through the chain, from one to as many as a batch may have, so
        that the first real batch finds compiled kernels, loaded models and touched memory; and it
        measures what batches take by their size.
        """
        most = self._graph.config.graph.batch_events
        opened: list[Stage] = []
        try:
            for stage in self._graph.stages:
                stage.open(most)
                opened.append(stage)
            for rung in reversed(range(self._graph.rungs)):
                self._set_rung(rung)
                self.service_s.insert(0, [(n, self._warm(n)) for n in sizes(most)])
            for number, stage in enumerate(self._graph.stages):
                if isinstance(stage, TruncatesLists):  # only now: what warms it is no event
                    stage.set_counter(self._block.truncation_counter(number))
            self._watcher.open(most)
            self._shadower.open(most)
        except BaseException:
            for stage in opened:
                stage.close()
            raise

    def close(self) -> None:
        """Close every stage and monitor."""
        self._watcher.close()
        self._shadower.close()
        for stage in self._graph.stages:
            stage.close()

    def run(
        self,
        batch: EventBatch,
        t_ready_ns: int,
        rung: int = 0,
        epoch: int = 0,
        carry: SegmentState = EMPTY,
    ) -> tuple[EventBatch, BatchSummary]:
        """Judge a batch to the end.

        Parameters
        ----------
        batch
            With the columns of ``graph.inputs``.
        t_ready_ns
            When the batch began to wait for this chain, CLOCK_MONOTONIC.
        rung, epoch
            Of the ladder, and of the models, for the decision record.
        carry
            What earlier segments have found.

        Returns
        -------
        kept, summary
            The events for the sink, with the columns of ``graph.outputs``, and what to account.
        """
        judged, carry = self._judge(batch, t_ready_ns, rung, epoch, carry)
        facts = BatchFacts(
            batch.seq, batch.events, rung, epoch, carry.started_ns, time.monotonic_ns()
        )
        self._watcher.offer(judged)
        self._shadower.offer(judged)
        return self._tally.summarise(judged, carry.flags, facts)

    def run_segment(
        self, batch: EventBatch, t_ready_ns: int, rung: int, epoch: int, carry: SegmentState
    ) -> tuple[EventBatch, SegmentState]:
        """Do the part of a segment that is not the last; see `run`.

        Returns
        -------
        passed, carry
            All events, with the columns of ``graph.outputs``, and what goes with them.
        """
        judged, carry = self._judge(batch, t_ready_ns, rung, epoch, carry)
        return judged.select(self._graph.outputs.names), carry

    def prepare(self, stage: str, epoch: int, model: Model) -> None:
        """Make a stage ready to judge with another model from `epoch` on; see `SwapsModel`."""
        if stage in self._swaps:  # else other workers run it
            self._swaps[stage].prepare(epoch, model)

    def _judge(
        self, batch: EventBatch, t_ready_ns: int, rung: int, epoch: int, carry: SegmentState
    ) -> tuple[EventBatch, SegmentState]:
        if epoch != self._epoch:
            self._switch(epoch)
        if rung != self._rung:
            self._set_rung(rung)
        judged = self._with_blank_decision(batch)
        flags: tuple[Flag, ...] = ()
        started = time.monotonic_ns()
        try:
            judged = self._process(judged, t_ready_ns)
            flags = judged.flags
        except DeviceLostError:
            raise  # no event is guilty
        except Exception:  # a stage may raise anything; the guilty events are looked for
            judged, flags = self._isolate(judged)
        if carry.flags and (gone := carry.failed()):
            made = [c for join in self._graph.joins for c in join.outputs]
            judged, flags = blank_failed_rows(judged, flags, gone, made)
        return judged, SegmentState((*carry.flags, *flags), carry.started_ns or started)

    def _set_rung(self, rung: int) -> None:
        """Judge on a rung of the ladder from now on."""
        cut = [stage.name for stage in self._graph.ladders if not stage.step(rung)]
        judge = self._graph.decision_stage()
        if isinstance(judge, PassesThrough):
            judge.disable_paths(self._graph.derived_columns(cut))
        self._rung = rung

    def _switch(self, epoch: int) -> None:
        for stage in self._swaps.values():
            stage.activate(epoch)
        self._epoch = epoch

    def _warm(self, events: int) -> float:
        """Send blank events through the stages; return the least seconds of a few such batches."""
        blank = {c.name: c.sample_zeros(events) for c in self._graph.inputs}
        took = []
        for _ in range(_WARM_TIMES if events < _LARGE else 2):
            began = time.perf_counter()
            self._warm_once(self._with_blank_decision(EventBatch(blank, events)))
            took.append(time.perf_counter() - began)
        return min(took)

    def _warm_once(self, batch: EventBatch) -> None:
        for stage in self._graph.stages:
            try:
                batch = stage.process(batch)
                batch.check(stage.provides, stage.name)
            except Exception as error:
                raise RunError(f"stage {stage.name!r}: cannot warm up: {_reason(error)}") from error
        if not self._graph.has_next_segment:
            self._tally.summarise(batch, (), BatchFacts(0, batch.events, 0, 0, 0, 0))

    def _process(self, batch: EventBatch, t_ready_ns: int) -> EventBatch:
        times = self._times
        times[0] = t_ready_ns
        times[1] = time.monotonic_ns()
        for index, (process, gate) in enumerate(self._steps, 2):
            done = process(batch)
            gate.check(done)
            if done.events != batch.events:
                name = self._graph.stages[index - 2].name
                raise DataError(f"{name}: expected {batch.events} events back, got {done.events}")
            batch = done
            times[index] = time.monotonic_ns()
        self._block.record_stages(batch.events, times)
        return batch

    def _isolate(self, batch: EventBatch) -> tuple[EventBatch, tuple[Flag, ...]]:
        """Halve the batch until the events that break a stage stand alone; fail those only."""
        watching = (*self._graph.monitors, *self._graph.shadows)
        names = {c.name for m in watching for c in m.consumes}
        names |= self._tally.needed_columns
        good: list[EventBatch] = []
        flags: list[Flag] = []
        broken = 0
        todo = [(0, batch.events)]
        while todo:
            start, stop = todo.pop()
            part = batch.slice(start, stop)
            try:
                if broken >= _ISOLATE_AT_MOST:
                    raise RuntimeError(f"more than {broken} events of the batch broke a stage")
                done = self._process(part, time.monotonic_ns())
            except DeviceLostError:
                raise
            except Exception as error:
                if stop - start > 1 and broken < _ISOLATE_AT_MOST:
                    middle = (start + stop) // 2
                    todo += [(middle, stop), (start, middle)]
                    continue
                broken += 1
                rows = list(range(start, stop))
                flags.append(Flag(self._blame(error), _reason(error), Outcome.FAILED, rows))
                done = self._failed(part, names)
            else:
                flags += [_shift(flag, start) for flag in done.flags]
            good.append(
                done.select(names | {OUTCOME.name, DECISION.name}).take(np.arange(done.events))
            )
        return concatenate(good), tuple(flags)

    def _failed(self, part: EventBatch, names: Iterable[str]) -> EventBatch:
        """Return the events with outcome failed and zeros in every column a stage would add."""
        made = {c.name: c for join in self._graph.joins for c in join.outputs}
        zeros = {n: made[n].zeros(part.events) for n in names if n in made}
        outcome = np.full(part.events, Outcome.FAILED, np.uint8)
        decision = np.zeros(part.events, np.uint64)
        return part.with_columns(**{**zeros, OUTCOME.name: outcome, DECISION.name: decision})

    def _blame(self, error: Exception) -> str:
        """Return the name of the stage in whose code the error arose."""
        frames = []
        trace = error.__traceback__
        while trace:
            frames.append(trace.tb_frame.f_locals.get("self"))
            trace = trace.tb_next
        return next((s.name for s in self._graph.stages if any(f is s for f in frames)), "chain")

    def _with_blank_decision(self, batch: EventBatch) -> EventBatch:
        """Return the batch with outcome and decision, blank if no segment has been before.

        Nobody writes to these arrays.
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


def _shift(flag: Flag, by: int) -> Flag:
    return Flag(flag.stage, flag.reason, flag.outcome, [row + by for row in flag.rows])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def sizes(most: int) -> list[int]:
    """Return the batch sizes at which service times are measured: powers of 8, and `most`.

    Examples
    --------
    >>> sizes(100)
    [1, 8, 64, 100]
    """
    found = [1]
    while found[-1] * 8 < most:
        found.append(found[-1] * 8)
    return [*found, most] if most > 1 else found
