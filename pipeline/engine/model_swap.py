"""Swaps of models while a run goes on: ordered, prepared off the path, begun at a batch."""

from __future__ import annotations

import os
import threading

from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError, ErrorRecord, ModelError, did_you_mean
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.inference.repository import Model, find_model, find_model_by_label
from sluice.pipeline.journal.commit import ModelSwapRecord
from sluice.pipeline.stages.capabilities import SwapsModel

from .base import RunContext
from .swap_requests import Order


class Swap(Struct, frozen=True):
    """A swap as it travels to a worker.

    Attributes
    ----------
    attempt
        Number of the attempt: an answer to an earlier one is not mistaken for this one's.
    epoch
        From which epoch on the stage judges with the model.
    stage, model, version, sha256
        The stage, and the model with the hash of its file.
    """

    attempt: int
    epoch: int
    stage: str
    model: str
    version: int
    sha256: str

    def for_journal(self) -> ModelSwapRecord:
        """Return what the journal notes of it."""
        return ModelSwapRecord(self.epoch, self.stage, self.model, str(self.version), self.sha256)

    def load(self) -> Model:
        """Find the model; ModelError if the repository has another file by now."""
        model = find_model(self.model, self.version)
        if model.manifest.sha256 != self.sha256:
            raise ModelError(
                f"model {model.label}: expected sha256 {self.sha256[:16]}…, the repository now "
                f"has {model.manifest.sha256[:16]}…"
            )
        return model


class SwapReply(Struct, frozen=True):
    """Answer of a worker or the sink to a swap: the payload of READY.

    Attributes
    ----------
    attempt
        `Swap.attempt` of the swap that it answers.
    error
        Why the model cannot be used; None when the process is ready.
    """

    attempt: int
    error: ErrorRecord | None = None


def request_swap(plan: RunContext, stage: str, label: str) -> Order:
    """Check what can be checked at once and hand the order to the engine.

    Parameters
    ----------
    plan
        Of the run that goes on.
    stage
        Name of the stage.
    label
        The model: ``name`` for its newest version, or ``name@version``.

    Raises
    ------
    SluiceError
        If there is no such stage or model, its tensors are others, or it is in use already.
    """
    swappable = {s.name: s for s in plan.graph.stages if isinstance(s, SwapsModel)}
    if stage not in swappable:
        raise ConfigError(
            f"swap: expected a stage that runs a model, got {stage!r}",
            did_you_mean(stage, swappable),
        )
    model = find_model_by_label(label)
    swappable[stage].check_swap(model)
    now = plan.account.models[stage]
    if now["sha256"] == model.manifest.sha256 and now["version"] == str(model.manifest.version):
        raise ModelError(f"stage {stage!r}: judges with {model.label} already")
    order = Order(stage, model)
    plan.orders.put(order)
    return order


class ModelPreload:
    """A model that is loaded, held to its golden outputs and warmed in a thread beside the chain.

    Parameters
    ----------
    chain
        That goes on judging meanwhile.
    swap
        What to prepare.
    cores
        Where the thread runs; empty for wherever the chain does.
    """

    def __init__(self, chain: Chain, swap: Swap, cores: tuple[int, ...] = ()) -> None:
        self.swap = swap
        self.error: Exception | None = None
        self._chain = chain
        self._cores = cores
        self._thread = threading.Thread(target=self._prepare, name="sluice-swap", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the model is ready or refused."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the preparation."""
        self._thread.join(timeout_s)

    def _prepare(self) -> None:
        try:
            if self._cores:
                os.sched_setaffinity(0, self._cores)  # of this thread alone
            self._chain.prepare(self.swap.stage, self.swap.epoch, self.swap.load())
        except Exception as error:  # the thread's owner looks at it
            self.error = error
