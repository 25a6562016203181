"""The inline engine: the same graph in one process, batch after batch, without sockets."""

from __future__ import annotations

import gc
import time
from typing import Any

from ..chain import Chain
from ..errors import RunError, SluiceError
from ..ledger import Time
from ..metrics import MeterBlock
from ..transport import Poller
from . import Plan
from .epochs import Epochs
from .pausing import Pause
from .spec import LastWords
from .swaps import Preparation

_WAIT_S = 0.05


class InlineEngine:
    """See `Engine`. One batch is in flight at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        block = MeterBlock(*plan.graph.meter_names())
        plan.account.blocks.append(block)
        self._chain = Chain(plan.graph, block, plan.sink.keep)
        self._epochs = Epochs(plan)
        self._preparation: Preparation | None = None
        self._failure: SluiceError | None = None

    def start(self) -> None:
        """Open the stages, then the sink."""
        self._chain.open()
        gc.freeze()  # what was loaded stays: the collector need not walk it again
        try:
            self._plan.sink.open(self._plan.graph.outputs, self._plan.bor)
        except OSError as error:
            self._chain.close()
            raise RunError(f"sink: cannot open: {error}") from error

    def run(self) -> None:
        """Judge batch after batch."""
        ledger = self._plan.account.ledger
        try:
            self._loop()
        except SluiceError as error:
            self._failure = error
            raise
        finally:
            ledger.enter(self._time(), time.monotonic_ns())
            self._epochs.close()
            why = self._failure.message if self._failure else "the engine broke off"
            self._plan.give_up_source(why)

    def _loop(self) -> None:
        source, account, control = self._plan.source, self._plan.account, self._plan.control
        most = self._plan.graph.config.graph.batch_events
        ledger, pause = account.ledger, Pause(self._plan)
        poller = Poller([source.socket] if source.socket else [])
        seq = 0
        stopped = False
        while not source.exhausted:
            if control.aborting:
                raise RunError("stopped a second time")
            if control.stopping and not stopped:
                source.stop()
                stopped = True
            self._swap(seq)
            batch = None if pause.holds() else source.read(most)
            ledger.enter(self._time(), time.monotonic_ns())
            account.lose(source.losses(), "source")
            if batch is not None:
                self._judge(self._plan.number(batch, seq))
                seq += 1
            if poller.poll(0.0 if batch is not None else self._patience()):
                source.receive()

    def _time(self) -> Time:
        return Time.PAUSED if self._plan.control.paused else Time.LIVE

    def _patience(self) -> float:
        """Return how long to wait for a message: until the source may have a batch."""
        more_s = self._plan.source.waiting().more_in_s
        return _WAIT_S if self._plan.control.paused else min(_WAIT_S, more_s)

    def finish(self) -> dict[str, Any]:
        """End the sink and close the stages."""
        if self._preparation is not None:
            self._preparation.wait()
        self._chain.close()
        try:
            self._plan.sink.close(None if self._failure else self._plan.eor())
        except OSError as error:
            raise RunError(f"sink: cannot end what it wrote: {error}", _SINK_HINT) from error
        return self._plan.sink.describe()

    def _swap(self, seq: int) -> None:
        """Prepare the next swap that was ordered; it begins with batch `seq` once it is ready."""
        preparation = self._preparation
        if preparation is None:
            swap = self._epochs.next()
            self._preparation = None if swap is None else Preparation(self._chain, swap)
        elif preparation.done:
            self._preparation = None
            if preparation.error is None:
                self._epochs.begin(seq)
            else:
                self._epochs.refuse(LastWords.of(preparation.error, "swap").error())

    def _judge(self, batch: Any) -> None:
        account = self._plan.account
        account.offer(batch)
        self._epochs.began(batch)
        kept, summary = self._chain.run(batch, time.monotonic_ns(), epoch=self._epochs.epoch)
        try:
            self._plan.sink.write(kept)
        except OSError as error:
            account.fail(batch, "sink", str(error))
            raise RunError(f"sink: cannot write batch {batch.seq}: {error}", _SINK_HINT) from error
        account.commit(batch, summary)


_SINK_HINT = "make room and replay the events that the report counts as failed"
