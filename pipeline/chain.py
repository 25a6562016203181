"""A chain of stages in one process: runs a batch, isolates events that break a stage, sums up."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from sluice.kernels.counting import count_bits, count_outcomes, rows_of

from .batch import (
    DECISION,
    EVENT_ID,
    OUTCOME,
    RECORD,
    Array,
    EventBatch,
    Flag,
    Outcome,
    concatenate,
)
from .batching import sizes
from .composition import compose
from .errors import DataError, RunError
from .graph import Graph
from .manifest import Model
from .metrics import MeterBlock
from .monitoring import Watcher
from .records import Judgement, Recorder
from .stages import Spares, Stage, Steps, Swaps, Truncates
from .wire import Summary

#: A batch in which more than this many events break a stage fails as a whole.
_ISOLATE_AT_MOST = 16
_WARM_TIMES = 5


class Chain:
    """The stages of a graph, opened and metered, with its monitors beside them.

    Parameters
    ----------
    graph
        Whose stages and monitors to run.
    block
        Service times and waits of the stages go there, and what the monitors saw.
    keep
        ``accepted`` or ``all``: which events go on to the sink.
    """

    def __init__(self, graph: Graph, block: MeterBlock, keep: str) -> None:
        self._graph = graph
        self._has_menu = bool(graph.paths())
        self._rows = np.empty(0, np.int64)
        self._blank_outcome = np.zeros(0, np.uint8)
        self._blank_decision = np.zeros(0, np.uint64)
        self._block = block
        self._times = np.zeros(len(graph.stages) + 2, np.int64)
        self._steps = [(stage.process, stage.provides, stage.name) for stage in graph.stages]
        self._swaps = {stage.name: stage for stage in graph.stages if isinstance(stage, Swaps)}
        self._epoch = self._rung = 0
        self._watcher = Watcher(graph.monitors, block.monitor_meters())
        meters = block.shadow_meters()
        for shadow, meter in zip(graph.shadows, meters, strict=True):
            shadow.meter = meter
        #: In a thread of their own: a slow shadow must not make monitors blind.
        self._shadower = Watcher(graph.shadows, meters)
        self._keep_all = keep == "all"
        made_here = {column.name for column in RECORD}
        self._keeps = len(graph.outputs) > 0
        self._names = tuple(name for name in graph.outputs.names if name not in made_here)
        judge = graph.judge()
        self._recorder = Recorder(
            graph.outputs.names,
            judge.prescales() if judge else None,
            graph.config.graph.batch_events,
        )
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
                self._step(rung)
                self.service_s.insert(0, [(n, self._warm(n)) for n in sizes(most)])
            for number, stage in enumerate(self._graph.stages):
                if isinstance(stage, Truncates):  # only now: what warms it is no event
                    stage.count_cut(self._block.cut_counter(number))
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
        self, batch: EventBatch, t_ready_ns: int, rung: int = 0, epoch: int = 0
    ) -> tuple[EventBatch, Summary]:
        """Judge a batch.

        Parameters
        ----------
        batch
            With the columns of ``graph.inputs``.
        t_ready_ns
            When the batch began to wait for this chain, CLOCK_MONOTONIC.
        rung, epoch
            Of the ladder, and of the models, for the decision record.

        Returns
        -------
        kept, summary
            The events for the sink, with the columns of ``graph.outputs``, and what to account.
        """
        flags: tuple[Flag, ...] = ()
        if epoch != self._epoch:
            self._switch(epoch)
        if rung != self._rung:
            self._step(rung)
        judged = self._unjudged(batch)
        started = time.monotonic_ns()
        try:
            judged = self._process(judged, t_ready_ns)
            flags = judged.flags
        except Exception:  # a stage may raise anything; the guilty events are looked for
            judged, flags = self._isolate(judged)
        facts = Judgement(batch.seq, batch.events, rung, epoch, started, time.monotonic_ns())
        self._watcher.offer(judged)
        self._shadower.offer(judged)
        return self._sum_up(judged, flags, facts)

    def prepare(self, stage: str, epoch: int, model: Model) -> None:
        """Make a stage ready to judge with another model from `epoch` on; see `Swaps`."""
        self._swaps[stage].prepare(epoch, model)

    def _step(self, rung: int) -> None:
        """Judge on a rung of the ladder from now on."""
        stages = [stage for stage in self._graph.stages if isinstance(stage, Steps)]
        cut = [stage.name for stage in stages if not stage.step(rung)]
        judge = self._graph.judge()
        if isinstance(judge, Spares):
            judge.mute(self._graph.made_of(cut))
        self._rung = rung

    def _switch(self, epoch: int) -> None:
        for stage in self._swaps.values():
            stage.switch(epoch)
        self._epoch = epoch

    def _warm(self, events: int) -> float:
        """Send blank events through the stages; return the least seconds of a few such batches."""
        blank = {c.name: c.blank(events) for c in self._graph.inputs}
        took = []
        for _ in range(_WARM_TIMES):
            began = time.perf_counter()
            self._try(self._unjudged(EventBatch(blank, events)))
            took.append(time.perf_counter() - began)
        return min(took)

    def _try(self, batch: EventBatch) -> None:
        for stage in self._graph.stages:
            try:
                batch = stage.process(batch)
                batch.check(stage.provides, stage.name)
            except Exception as error:
                raise RunError(f"stage {stage.name!r}: cannot warm up: {_reason(error)}") from error
        self._sum_up(batch, (), Judgement(0, batch.events, 0, 0, 0, 0))

    def _process(self, batch: EventBatch, t_ready_ns: int) -> EventBatch:
        times = self._times
        times[0] = t_ready_ns
        times[1] = time.monotonic_ns()
        for index, (process, provides, name) in enumerate(self._steps, 2):
            done = process(batch)
            done.check(provides, name)
            if done.events != batch.events:
                raise DataError(f"{name}: expected {batch.events} events back, got {done.events}")
            batch = done
            times[index] = time.monotonic_ns()
        self._block.record_stages(batch.events, times)
        return batch

    def _isolate(self, batch: EventBatch) -> tuple[EventBatch, tuple[Flag, ...]]:
        """Halve the batch until the events that break a stage stand alone; fail those only."""
        watching = (*self._graph.monitors, *self._graph.shadows)
        names = {*self._names, *(c.name for m in watching for c in m.consumes)}
        names |= {EVENT_ID.name, *self._recorder.reads}
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
                done.only(names | {OUTCOME.name, DECISION.name}).take(np.arange(done.events))
            )
        return concatenate(good), tuple(flags)

    def _failed(self, part: EventBatch, names: Iterable[str]) -> EventBatch:
        """Return the events with outcome failed and zeros in every column a stage would add."""
        made = {c.name: c for join in self._graph.joins for c in join.adds}
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

    def _sum_up(
        self, batch: EventBatch, flags: tuple[Flag, ...], facts: Judgement
    ) -> tuple[EventBatch, Summary]:
        outcome: Array = batch[OUTCOME.name]
        if not self._has_menu:  # a graph without a menu accepts what is sound
            outcome = np.where(outcome == Outcome.OPEN, np.uint8(Outcome.ACCEPTED), outcome)
            batch = batch.with_columns(outcome=outcome)
        counts, paths = np.zeros(len(Outcome), np.int64), np.zeros(64, np.int64)
        count_outcomes(outcome, counts)
        count_bits(batch[DECISION.name], paths)
        rows = self._accepted(outcome) if self._keeps and not self._keep_all else None
        kept = batch.only(self._names)
        if not self._keeps:
            kept = EventBatch({}, 0, batch.seq)
        elif rows is not None:
            kept = kept.take(rows)
        kept = self._recorder.add(kept, batch, rows, facts)
        composition = compose(
            facts.seq, batch[EVENT_ID.name], counts.tolist(), facts.epoch, facts.rung
        )
        found = (counts.tobytes(), paths.tobytes(), facts.ended, list(flags), composition)
        return kept, Summary(*found)

    def _unjudged(self, batch: EventBatch) -> EventBatch:
        """Return the batch with outcome and decision blank; nobody writes to these arrays."""
        events = batch.events
        if len(self._blank_outcome) < events:
            self._blank_outcome = np.zeros(events, np.uint8)
            self._blank_decision = np.zeros(events, np.uint64)
        return batch.with_columns(
            outcome=self._blank_outcome[:events], decision=self._blank_decision[:events]
        )

    def _accepted(self, outcome: Array) -> Array:
        if len(self._rows) < len(outcome):
            self._rows = np.empty(len(outcome), np.int64)
        return self._rows[: rows_of(outcome, Outcome.ACCEPTED, self._rows)]


def _shift(flag: Flag, by: int) -> Flag:
    return Flag(flag.stage, flag.reason, flag.outcome, [row + by for row in flag.rows])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
