"""Model swaps in the distributed engine: they begin when every process is ready.

A worker is ready when it has loaded the model, the sink when it knows what to write into the
journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_epochs import ModelEpochs
from sluice.pipeline.engine.model_swap import Swap, SwapReply

#: Exits of workers during the preparation of a swap after which it is rejected. One worker may have
#: been killed by chance; with two the model is the likely cause.
_MAX_EXITS = 2
#: Time within which every process must be ready for a swap, s.
_PREPARE_TIMEOUT_S = 60.0


class SwapCoordinator:
    """Carries out swap requests, one at a time, up to the batch with which each begins.

    Parameters
    ----------
    context
        The run.
    send
        Sends a swap to the worker of the given name.
    """

    def __init__(self, context: RunContext, send: Callable[[str, Swap], None]) -> None:
        self.epochs = ModelEpochs(context)
        self._send = send
        #: Names of the processes that still prepare the swap, and of those that are ready.
        self._preparing: set[str] = set()
        self._ready: set[str] = set()
        self._exits = 0
        self._deadline_s = 0.0

    def advance(self, workers: list[str] | None, oldest: int, seq: int) -> None:
        """Begin the pending swap if every process is ready, or prepare the next one.

        Parameters
        ----------
        workers
            Names of workers and sink; None while any of them is not ready.
        oldest
            Epoch of the oldest batch in flight.
        seq
            Number of the next batch.
        """
        epochs = self.epochs
        if epochs.pending is not None:
            if self._ready and not self._preparing:
                epochs.activate(seq)
            elif time.monotonic() > self._deadline_s:
                late = ", ".join(sorted(self._preparing))
                epochs.reject(RunError(f"swap: not ready after {_PREPARE_TIMEOUT_S:g} s: {late}"))
            return
        if workers is None or oldest < epochs.epoch:
            return
        epochs.retire_previous()
        swap = epochs.take_request()
        if swap is not None:
            self._preparing, self._ready, self._exits = set(workers), set(), 0
            self._deadline_s = time.monotonic() + _PREPARE_TIMEOUT_S
            for worker in workers:
                self._send(worker, swap)

    def on_worker_ready(self, worker: str, epoch: int) -> None:
        """Send the swaps after `epoch` to a worker that has started at that epoch."""
        epochs = self.epochs
        if epochs.latest is not None and epoch < epochs.epoch:
            self._send(worker, epochs.latest)
        if epochs.pending is not None:
            self._preparing.add(worker)
            self._send(worker, epochs.pending)

    def on_reply(self, worker: str, ready: SwapReply) -> None:
        """Handle the reply of a worker or of the sink to a swap."""
        pending = self.epochs.pending
        if pending is None or ready.attempt != pending.attempt:
            return
        self._preparing.discard(worker)
        if ready.error is not None:
            self.epochs.reject(ready.error.error())
        else:
            self._ready.add(worker)

    def on_worker_exit(self, worker: str) -> None:
        """Record the exit of a worker; a model that ends its workers is rejected."""
        self._ready.discard(worker)
        if worker in self._preparing and self.epochs.pending is not None:
            self._preparing.discard(worker)
            self._exits += 1
            if self._exits >= _MAX_EXITS:
                swap = self.epochs.pending
                self.epochs.reject(
                    RunError(f"swap: workers die while they load {swap.model}/{swap.version}")
                )
