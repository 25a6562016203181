"""Swaps of models in the distributed engine: all are ready before the first batch.

A worker is when it has the model, the sink when it knows what to write into the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.model_swap import Swap, SwapReply

#: A worker that dies while it prepares may have been killed; one that dies twice cannot load it.
_DEATHS = 2
_PREPARE_S = 60.0


class SwapCoordinator:
    """Leads each swap from its order to the batch with which it begins.

    Parameters
    ----------
    plan
        The run.
    send
        Sends a swap to the worker of a name.
    """

    def __init__(self, plan: RunContext, send: Callable[[str, Swap], None]) -> None:
        self.epochs = ModelEpochs(plan)
        self._send = send
        #: Workers that prepare, and those that are ready.
        self._asked: set[str] = set()
        self._ready: set[str] = set()
        self._deaths = 0
        self._deadline = 0.0

    def advance(self, workers: list[str] | None, oldest: int, seq: int) -> None:
        """Go on: begin the swap that all are ready for, or prepare the next.

        Parameters
        ----------
        workers
            All workers and the sink, None while any of them is not ready.
        oldest
            Epoch of the oldest batch in flight.
        seq
            Number of the next batch.
        """
        epochs = self.epochs
        if epochs.pending is not None:
            if self._ready and not self._asked:
                epochs.activate(seq)
            elif time.monotonic() > self._deadline:
                late = ", ".join(sorted(self._asked))
                epochs.refuse(RunError(f"swap: not ready after {_PREPARE_S:g} s: {late}"))
            return
        if workers is None or oldest < epochs.epoch:
            return
        epochs.retire_previous()
        swap = epochs.take_request()
        if swap is not None:
            self._asked, self._ready, self._deaths = set(workers), set(), 0
            self._deadline = time.monotonic() + _PREPARE_S
            for worker in workers:
                self._send(worker, swap)

    def welcome(self, worker: str, epoch: int) -> None:
        """Tell a worker that has just come, and began with `epoch`, what it does not know yet."""
        epochs = self.epochs
        if epochs.last is not None and epoch < epochs.epoch:
            self._send(worker, epochs.last)
        if epochs.pending is not None:
            self._asked.add(worker)
            self._send(worker, epochs.pending)

    def on_reply(self, worker: str, ready: SwapReply) -> None:
        """Take a worker's answer."""
        pending = self.epochs.pending
        if pending is None or ready.attempt != pending.attempt:
            return
        self._asked.discard(worker)
        if ready.error is not None:
            self.epochs.refuse(ready.error.error())
        else:
            self._ready.add(worker)

    def on_worker_exit(self, worker: str) -> None:
        """Note that a worker has died; a model that kills its workers is refused."""
        self._ready.discard(worker)
        if worker in self._asked and self.epochs.pending is not None:
            self._asked.discard(worker)
            self._deaths += 1
            if self._deaths >= _DEATHS:
                swap = self.epochs.pending
                self.epochs.refuse(
                    RunError(f"swap: workers die while they load {swap.model}/{swap.version}")
                )
