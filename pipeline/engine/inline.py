"""The inline engine: the same graph in one process, batch after batch, without sockets."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ErrorRecord, RunError, SluiceError
from sluice.pipeline.core.log import fields
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.journal.commit import BatchResult, CommitRecord
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.run.ledger import RunTime
from sluice.pipeline.transport.batch_summary import pack_summary, unpack_summaries
from sluice.pipeline.transport.poller import Poller

from .base import RunContext
from .batch_reader import BatchReader, Pause
from .group_commit import GroupCommit
from .model_epochs import ModelEpochs
from .model_swap import ModelPreload
from .storage_retry import HOLDER, RETRY_S, StorageRetry

_LOG = logging.getLogger("sluice.engine")
_WAIT_S = 0.05


class InlineEngine:
    """See `Engine`. One batch is judged at a time."""

    def __init__(self, plan: RunContext) -> None:
        self._plan = plan
        block = MeterBlock(*plan.graph.meter_names(), shadows=plan.graph.shadow_names())
        plan.account.add_meters(block)
        self._chain = Chain(plan.graph, block, plan.sink.keep)
        self._epochs = ModelEpochs(plan)
        self._preparation: ModelPreload | None = None
        self._failure: SluiceError | None = None
        self._room = StorageRetry(plan.sink.disk_full_timeout_s)
        #: Batches that are not committed.
        self._open: dict[int, EventBatch] = {}
        self._small = plan.graph.config.graph.batch_events // 4

    def start(self) -> None:
        """Open the stages, then the sink."""
        self._chain.open()
        gc.freeze()  # what was loaded stays: the collector need not walk it again
        resumed = self._plan.resumed
        self._intake = BatchReader(self._plan, self._epochs)
        self._intake.batching.begin(self._chain.service_s)
        try:
            commits = self._plan.sink.open(
                self._plan.graph.outputs, self._plan.bor, resumed.next if resumed else None
            )
        except OSError as error:
            self._chain.close()
            raise RunError(f"sink: cannot open: {error}") from error
        last = commits[-1] if commits else CommitRecord()
        limits = self._plan.graph.config.graph
        self._committer = GroupCommit(
            self._plan.sink, self._plan.graph.outputs, limits, last, self._acknowledge,
            limits.window * limits.batch_events,  # nobody waits for an acknowledgement here
        )  # fmt: skip

    def run(self) -> None:
        """Judge batch after batch."""
        try:
            self._loop()
        except SluiceError as error:
            self._failure = error
            raise
        finally:
            self._plan.account.enter_state(self._time(), time.monotonic_ns())
            self._epochs.close()
            self._give_up()

    def _loop(self) -> None:
        source, account, control = self._plan.source, self._plan.account, self._plan.control
        intake, live = self._intake, source.socket is not None
        pause = Pause(self._plan)
        poller = Poller([source.socket] if source.socket else [])
        stopped = False
        while not source.exhausted:
            if control.aborting:
                raise RunError("stopped a second time")
            if control.stopping and not stopped:
                source.stop()
                stopped = True
            self._swap(intake.next_seq)
            intake.rungs.tick()
            taken = None if pause.holds() else intake.next(1)
            account.enter_state(self._time(), time.monotonic_ns())
            account.record_losses(source.losses(), "source")
            if taken is not None:
                self._judge(*taken)
            due_s = self._committer.due_in(time.monotonic())
            if due_s <= 0:
                self._flush()
            if source.exhausted or (taken is not None and not live):
                continue  # even a look at nothing would give the core away
            wait_s = max(0.0, min(self._patience(), due_s))
            if poller.poll(0.0 if taken is not None else wait_s):
                source.receive()
        self._flush()

    def _time(self) -> RunTime:
        return RunTime.PAUSED if self._plan.control.paused else RunTime.LIVE

    def _patience(self) -> float:
        """Return how long to wait for a message: until the source may have a batch."""
        more_s = self._plan.source.available().next_in_s
        return _WAIT_S if self._plan.control.paused else min(_WAIT_S, more_s)

    def finish(self) -> dict[str, Any]:
        """End the sink and close the stages."""
        if self._preparation is not None:
            self._preparation.wait()
        self._chain.close()
        gc.unfreeze()  # so that nothing of this run stays
        eor = None if self._failure else self._plan.eor()
        self._write(lambda: self._plan.sink.close(eor), lambda: self._plan.sink.close(eor))
        return self._plan.sink.describe()

    def _swap(self, seq: int) -> None:
        """Prepare the next swap that was ordered; it begins with batch `seq` once it is ready."""
        preparation = self._preparation
        if preparation is None:
            swap = self._epochs.take_request()
            self._preparation = None if swap is None else ModelPreload(self._chain, swap)
        elif preparation.done:
            self._preparation = None
            if preparation.error is None:
                self._committer.register_swap(preparation.swap.for_journal())
                self._epochs.activate(seq)
            else:
                self._epochs.refuse(ErrorRecord.of(preparation.error, "swap").error())

    def _judge(self, batch: EventBatch, rung: int) -> None:
        self._open[batch.seq] = batch
        began_ns = time.monotonic_ns()
        kept, summary = self._chain.run(batch, began_ns, rung, self._epochs.epoch)
        if 0 < kept.events < self._small:  # it may wait while the stages reuse their arrays
            kept = kept.take(np.arange(kept.events))
        result = BatchResult(batch.seq, batch.events, kept, pack_summary(summary))
        # What could not be added is held all the same.
        self._write(lambda: self._committer.add(result, time.monotonic()), self._committer.flush)
        took_ns = time.monotonic_ns() - began_ns
        self._intake.batching.on_done(batch.events, took_ns, None, rung)

    def _flush(self) -> None:
        self._write(self._committer.flush, self._committer.flush)

    def _acknowledge(self, first: int, batches: int, payload: bytes) -> None:
        for seq, summary in enumerate(unpack_summaries(payload), first):
            self._plan.account.record_committed(self._open.pop(seq), summary)

    def _write(self, write: Callable[[], None], again: Callable[[], None]) -> None:
        """Let the sink write; without room pause the run and do `again` until there is."""
        room, control = self._room, self._plan.control
        while True:
            try:
                write()
            except OSError as error:
                write = again
                self._lose_room(error)
            else:
                break
        if room.on_success():
            control.remove_hold(HOLDER)
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))

    def _lose_room(self, error: OSError) -> None:
        plan = self._plan
        try:
            news = self._room.on_error(error, time.monotonic())
        except RunError as failure:
            raise RunError(f"sink: {failure.message}", failure.hint) from error
        if news:
            plan.control.add_hold(HOLDER, str(error))
            _LOG.warning("paused: the sink cannot write: %s", error, extra=fields("disk-full"))
        plan.account.enter_state(self._time(), time.monotonic_ns())
        if plan.control.aborting:
            raise RunError("stopped a second time while the sink has no room")
        poller = Poller([plan.source.socket] if plan.source.socket else [])
        if poller.poll(RETRY_S):
            plan.source.receive()

    def _give_up(self) -> None:
        """Count what the sink has not got as failed."""
        why = self._failure.message if self._failure else "the engine broke off"
        for batch in self._open.values():
            self._plan.account.record_failed(batch, "engine", why)
        self._open.clear()
        self._plan.fail_remaining(why)
