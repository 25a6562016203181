"""Model swaps during a run: requested, loaded beside the running chain, begun at a batch."""

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
from .swap_requests import SwapRequest


class Swap(Struct, frozen=True, kw_only=True):
    """A model swap, as it is sent to workers and sink.

    Attributes
    ----------
    attempt
        Number of the attempt, so that replies to an earlier one are ignored.
    epoch
        First model epoch in which the stage runs the model.
    stage
        Name of the stage.
    model, version
        Name and version of the model.
    sha256
        Hash of the model file.
    """

    attempt: int
    epoch: int
    stage: str
    model: str
    version: int
    sha256: str

    def for_journal(self) -> ModelSwapRecord:
        """Return the record of the swap for the journal."""
        return ModelSwapRecord(
            epoch=self.epoch,
            stage=self.stage,
            name=self.model,
            version=str(self.version),
            sha256=self.sha256,
        )

    def load(self) -> Model:
        """Return the model; ModelError if its file in the repository has changed."""
        model = find_model(self.model, self.version)
        if model.manifest.digest != self.sha256:
            raise ModelError(
                f"model {model.label}: expected sha256 {self.sha256[:16]}…, the repository now "
                f"has {model.manifest.digest[:16]}…"
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


def request_swap(context: RunContext, stage: str, label: str) -> SwapRequest:
    """Check a swap and put the request into the queue of the engine.

    Parameters
    ----------
    context
        The running run.
    stage
        Name of the stage.
    label
        The model: ``name`` for its newest version, or ``name@version``.

    Raises
    ------
    SluiceError
        If the stage or model does not exist, its tensors differ, or it is in use already.
    """
    swappable = {s.name: s for s in context.graph.stages if isinstance(s, SwapsModel)}
    if stage not in swappable:
        raise ConfigError(
            f"swap: expected a stage that runs a model, got {stage!r}",
            did_you_mean(stage, swappable),
        )
    model = find_model_by_label(label)
    swappable[stage].check_swap(model)
    current = context.accounting.models[stage]
    if current["sha256"] == model.manifest.digest and current["version"] == str(
        model.manifest.version
    ):
        raise ModelError(f"stage {stage!r}: runs {model.label} already")
    request = SwapRequest(stage, model)
    context.swap_queue.put(request)
    return request


class ModelPreload:
    """Loads, checks and warms up a model in a thread beside the running chain.

    Parameters
    ----------
    chain
        The running chain.
    swap
        The swap to prepare.
    cores
        CPU cores of the thread; empty for those of the chain.
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
        """Whether the preparation has ended, with or without an error."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the preparation, up to `timeout_s`."""
        self._thread.join(timeout_s)

    def _prepare(self) -> None:
        try:
            if self._cores:
                os.sched_setaffinity(0, self._cores)  # applies to this thread only
            self._chain.prepare(self.swap.stage, self.swap.epoch, self.swap.load())
        except Exception as error:  # reported by the owner of the thread
            self.error = error
