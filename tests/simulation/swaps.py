"""Model swaps of a simulated run: requests, loading in virtual time, and what must hold of them."""

from __future__ import annotations

import itertools
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any

from sluice.pipeline.core.errors import ModelError, RunError, SluiceError
from sluice.pipeline.engine.base import RunContext
from sluice.pipeline.engine.model_swap import Swap
from sluice.pipeline.engine.swap_requests import SwapRequest
from sluice.pipeline.journal.batch_record import record_epoch
from sluice.pipeline.journal.commit import CommitRecord

from .model import MODEL, SimulatedChain, sha256_of
from .virtual_time import VirtualTime


class LoadingError(Exception):
    """A process waits until a model is loaded: what it does now is to be done at `until_s`."""

    def __init__(self, until_s: float) -> None:
        super().__init__(f"loads a model until {until_s:g} s")
        self.until_s = until_s


class SimulatedSwaps:
    """Swap requests of a run, and the loads of their models.

    Attributes
    ----------
    longest_load_s
        Longest time that a process takes to load a model, s.
    """

    def __init__(self, clock: VirtualTime, random: Random) -> None:
        self.clock, self.random = clock, random
        self.longest_load_s = 0.0
        self._context: RunContext | None = None
        self._requests: list[SwapRequest] = []
        self._bad: set[int] = set()
        self._versions = itertools.count(1)

    def begin(self, context: RunContext) -> None:
        """Request swaps of this run from now on."""
        self._context = context

    def request(self, stage: str, *, bad: bool) -> None:
        """Request a swap, as the run control does; half of the loads of a bad model fail."""
        assert self._context is not None
        version = next(self._versions)
        if bad:
            self._bad.add(version)
        manifest = SimpleNamespace(name=MODEL, version=version, digest=sha256_of(version))
        model: Any = SimpleNamespace(manifest=manifest, label=f"{MODEL}@{version}")
        request = SwapRequest(stage, model)
        with suppress(RunError):  # the run is over
            self._context.swap_queue.put(request)
            self._requests.append(request)

    def preload(self, chain: SimulatedChain, swap: Swap, _: object) -> SimulatedPreload:
        """Begin to load a model in a process; takes the place of `ModelPreload`."""
        return SimulatedPreload(self, chain, swap)

    def load(self, swap: Swap) -> int:
        """Return what stands for the model; a swap that has begun was loaded by others already."""
        assert self._context is not None
        begun = len(self._context.accounting.snapshot().swaps) >= swap.epoch
        if swap.version in self._bad and not begun and self.random.random() < 0.5:
            raise ModelError(f"model {swap.model}@{swap.version}: is a bad one")
        return swap.version

    def check(self, commits: list[CommitRecord], segments: int) -> list[list[int]]:
        """Check epochs and swaps; return the versions of the models of each batch, by segment."""
        begun = self._check_requests()
        epochs = [record_epoch(s.batch_record) for commit in commits for s in commit.unpacked()]
        starts = [record["seq"] for record in begun]
        assert epochs == [sum(start <= seq for start in starts) for seq in range(len(epochs))]
        assert commits[-1].epoch == epochs[-1]
        recorded = [swap for commit in commits for swap in commit.swaps]
        assert [swap.epoch for swap in recorded] == list(range(1, epochs[-1] + 1))
        for swap, record in zip(recorded, begun, strict=False):
            assert (swap.stage, swap.version) == (record["stage"], record["to"]["version"])
        models = [[0] * segments]
        for record in begun:
            models.append(list(models[-1]))
            models[-1][int(record["stage"][1:])] = int(record["to"]["version"])
        return [models[epoch] for epoch in epochs]

    def check_worker(self, chain: SimulatedChain) -> None:
        """Check that a worker to which all messages came has the models of the last epoch."""
        assert self._context is not None
        begun = self._context.accounting.snapshot().swaps
        last = [record for record in begun if record["stage"] == chain.stage]
        expected = int(last[-1]["to"]["version"]) if last else 0
        assert chain.version(len(begun)) == expected

    def _check_requests(self) -> list[dict[str, Any]]:
        """Check that each request has an outcome; return the records of the swaps that began."""
        assert self._context is not None
        begun = []
        for request in self._requests:
            assert request.done
            with suppress(SluiceError):
                begun.append(request.wait(0.0))
        assert [record["epoch"] for record in begun] == list(range(1, len(begun) + 1))
        assert self._context.accounting.snapshot().swaps == begun
        return begun


class SimulatedPreload:
    """A model that one process loads beside its batches.

    Attributes
    ----------
    swap
        The swap.
    error
        Why it could not be loaded; None if it was.
    done
        Whether the load has ended.
    """

    def __init__(self, swaps: SimulatedSwaps, chain: SimulatedChain, swap: Swap) -> None:
        self.swap, self.error, self.done = swap, None, False
        self._swaps, self._chain = swaps, chain
        load_s = swaps.random.uniform(0.0, swaps.longest_load_s)
        self._until_s = swaps.clock.now_s + load_s
        swaps.clock.after(load_s, self._end)

    def wait(self) -> None:
        """Let the process wait for the end of the load."""
        if not self.done:
            raise LoadingError(self._until_s)

    def _end(self) -> None:
        swap = self.swap
        try:
            self._chain.prepare(swap.stage, swap.epoch, self._swaps.load(swap))
        except Exception as error:
            self.error: Exception | None = error
        self.done = True
