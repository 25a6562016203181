"""The inline engine: runs a graph in one process, batch after batch, without sockets."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

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

from .base import RunContext, SinkReport
from .batch_reader import BatchReader
from .group_commit import GroupCommit
from .model_epochs import ModelEpochs
from .model_swap import ModelPreload
from .storage_retry import HOLDER, RETRY_S, StorageRetry

_LOG = logging.getLogger("sluice.engine")
#: Longest wait for a message of the source, s: stop requests are seen after it.
_WAIT_S = 0.05


class InlineEngine:
    """Runs the graph in this process, one batch at a time; implements `Engine`."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        block = MeterBlock(*context.graph.meter_names(), shadows=context.graph.shadow_names())
        context.accounting.add_meters(block)
        self._chain = Chain(context.graph, block, context.sink.keep)
        self._epochs = ModelEpochs(context)
        self._preload: ModelPreload | None = None
        self._failure: SluiceError | None = None
        self._storage = StorageRetry(context.sink.disk_full_timeout_s)
        #: Batches that are not committed yet, by number.
        self._uncommitted: dict[int, EventBatch] = {}
        self._copy_below_events = context.graph.config.graph.batch_events // 4

    def start(self) -> None:
        """Open the stages, then the sink."""
        self._chain.open()
        gc.freeze()  # the garbage collector need not visit objects that live as long as the run
        resumed = self._context.resumed
        self._reader = BatchReader(self._context, self._epochs)
        self._reader.batching.set_service_times(self._chain.service_s)
        try:
            commits = self._context.sink.open(
                self._context.graph.outputs, self._context.bor, resumed.next if resumed else None
            )
        except OSError as error:
            self._chain.close()
            raise RunError(f"sink: cannot open: {error}") from error
        last = commits[-1] if commits else CommitRecord()
        limits = self._context.graph.config.graph
        self._committer = GroupCommit(
            self._context.sink, self._context.graph.outputs, limits, last, self._acknowledge,
            limits.window * limits.batch_events,  # no other process waits for the acknowledgement
        )  # fmt: skip

    def run(self) -> None:
        """Process batch after batch until the source is exhausted."""
        try:
            self._loop()
        except BaseException as error:
            self._failure = RunError.of(error)
            raise
        finally:
            self._context.accounting.enter_state(self._run_time(), time.monotonic_ns())
            self._epochs.close()
            self._fail_uncommitted()

    def _loop(self) -> None:
        source, accounting, control = (
            self._context.source,
            self._context.accounting,
            self._context.control,
        )
        reader, live = self._reader, source.socket is not None
        poller = Poller([source.socket] if source.socket else [])
        stopped = False
        while not source.exhausted:
            if control.aborting:
                raise RunError("stopped a second time")
            if control.stopping and not stopped:
                self._context.stop_source()
                stopped = True
            self._advance_swap(reader.next_seq)
            reader.ladder.tick()
            taken = None if reader.is_paused() else reader.next(1)
            accounting.enter_state(self._run_time(), time.monotonic_ns())
            accounting.record_losses(source.losses(), "source")
            if taken is not None:
                self._process(*taken)
            due_s = self._committer.due_in(time.monotonic())
            if due_s <= 0:
                self._flush()
            if source.exhausted or (taken is not None and not live):
                continue  # a poll gives up the core even without a timeout
            wait_s = max(0.0, min(self._poll_timeout(), due_s))
            if poller.poll(0.0 if taken is not None else wait_s):
                source.receive()
        self._flush()

    def _run_time(self) -> RunTime:
        return RunTime.PAUSED if self._context.control.paused else RunTime.LIVE

    def _poll_timeout(self) -> float:
        """Return the time until the source may have a batch, s, up to `_WAIT_S`."""
        more_s = self._context.source.available().next_in_s
        return _WAIT_S if self._context.control.paused else min(_WAIT_S, more_s)

    def finish(self) -> SinkReport:
        """Close the sink and the stages."""
        if self._preload is not None:
            self._preload.wait()
        self._chain.close()
        gc.unfreeze()  # the objects of this run can be collected now
        eor = None if self._failure else self._context.eor()
        self._write(lambda: self._context.sink.close(eor), lambda: self._context.sink.close(eor))
        return SinkReport(self._context.sink.describe(), self._committer.committed)

    def _advance_swap(self, seq: int) -> None:
        """Load the model of the next requested swap; once ready, it begins with batch `seq`."""
        preload = self._preload
        if preload is None:
            swap = self._epochs.take_request()
            self._preload = None if swap is None else ModelPreload(self._chain, swap)
        elif preload.done:
            self._preload = None
            if preload.error is None:
                self._committer.register_swap(preload.swap.for_journal())
                self._epochs.activate(seq)
            else:
                self._epochs.reject(ErrorRecord.of(preload.error, "swap").error())

    def _process(self, batch: EventBatch, rung: int) -> None:
        self._uncommitted[batch.seq] = batch
        began_ns = time.monotonic_ns()
        kept, summary = self._chain.run(batch, began_ns, rung, self._epochs.epoch)
        if (
            0 < kept.events < self._copy_below_events
        ):  # it may wait for its group while the stages reuse their arrays
            kept = kept.take(np.arange(kept.events))
        result = BatchResult(batch.seq, batch.events, kept, pack_summary(summary))
        # A result whose write failed is held by the committer, so a retry only flushes.
        self._write(lambda: self._committer.add(result, time.monotonic()), self._committer.flush)
        took_ns = time.monotonic_ns() - began_ns
        self._reader.batching.on_done(batch.events, took_ns, None, rung)

    def _flush(self) -> None:
        self._write(self._committer.flush, self._committer.flush)

    def _acknowledge(self, first: int, batches: int, payload: bytes) -> None:
        for seq, summary in enumerate(unpack_summaries(payload), first):
            self._context.accounting.record_committed(self._uncommitted.pop(seq), summary)

    def _write(self, write: Callable[[], None], again: Callable[[], None]) -> None:
        """Call `write`; while the disk is full, pause the run and retry with `again`."""
        storage, control = self._storage, self._context.control
        while True:
            try:
                write()
            except OSError as error:
                write = again
                self._on_write_error(error)
            else:
                break
        if storage.on_success():
            control.remove_hold(HOLDER)
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))

    def _on_write_error(self, error: OSError) -> None:
        context = self._context
        try:
            first = self._storage.on_error(error, time.monotonic())
        except RunError as failure:
            raise RunError(f"sink: {failure.message}", failure.hint) from error
        if first:
            context.control.add_hold(HOLDER, str(error))
            _LOG.warning("paused: the sink cannot write: %s", error, extra=fields("disk-full"))
        context.accounting.enter_state(self._run_time(), time.monotonic_ns())
        if context.control.aborting:
            raise RunError("stopped a second time while the sink waits for disk space")
        poller = Poller([context.source.socket] if context.source.socket else [])
        if poller.poll(RETRY_S):
            context.source.receive()

    def _fail_uncommitted(self) -> None:
        """Count the events that are not committed as failed."""
        why = self._failure.message if self._failure else "the engine broke off"
        for batch in self._uncommitted.values():
            self._context.accounting.record_failed(batch, "engine", why)
        self._uncommitted.clear()
        self._context.fail_remaining(why)
