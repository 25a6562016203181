"""Model epochs of a run: each model swap begins the next epoch."""

from __future__ import annotations

import logging
from typing import Any

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.core.log import fields
from sluice.pipeline.run.resume import replace_model

from .base import RunContext
from .model_swap import Swap
from .swap_requests import SwapRequest, run_ended_error

_LOG = logging.getLogger("sluice.engine")


class ModelEpochs:
    """Takes swap requests one at a time; keeps the state with which a process is restarted.

    Attributes
    ----------
    epoch
        Epoch of the batches that are read from now on.
    pending
        Swap in preparation; None if there is none.
    config
        Graph with which a process starts: its models are those of the epoch before `latest`.
    models
        Name, version, sha256 and backend of the model of each stage of `config`.
    latest
        The latest swap, while batches of the epoch before it may be in flight; else None.
    activated
        All swaps that have begun in this attempt, for a restarted sink.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._request: SwapRequest | None = None
        self._attempts = 0
        self.epoch = context.resumed.epoch if context.resumed else 0
        self.activated: tuple[Swap, ...] = ()
        self.pending: Swap | None = None
        self.config: GraphConfig = context.graph.config
        self.models = context.accounting.models
        self.latest: Swap | None = None

    def take_request(self) -> Swap | None:
        """Take the next request and return its swap; None if there is none."""
        request = self._context.swap_queue.take()
        if request is None:
            return None
        self._attempts += 1
        manifest = request.model.manifest
        self._request = request
        self.pending = Swap(
            attempt=self._attempts, epoch=self.epoch + 1, stage=request.stage, model=manifest.name,
            version=manifest.version, sha256=manifest.digest,
        )  # fmt: skip
        return self.pending

    def retire_previous(self) -> None:
        """Drop the previous epoch: no batch of it is in flight."""
        if self.latest is not None:
            swap = self.latest
            self.config = replace_model(self.config, swap.stage, swap.model, swap.version)
            self.models = self._context.accounting.models
            self.latest = None

    def activate(self, seq: int) -> None:
        """Begin the epoch of the pending swap with batch `seq`."""
        swap, request = self.pending, self._request
        if swap is None or request is None:
            return
        self.retire_previous()
        self.epoch, self.latest = swap.epoch, swap
        self.activated += (swap,)
        self.pending = self._request = None
        record = self._record(swap, seq)
        _log_swap(record)
        request.resolve(record)

    def reject(self, error: SluiceError) -> None:
        """Drop the pending swap; the stage keeps its model."""
        request, self.pending, self._request = self._request, None, None
        if request is not None:
            extra = fields("swap-refused", stage=request.stage, reason=error.message)
            _LOG.warning("stage %s keeps its model: %s", request.stage, error.message, extra=extra)
            request.reject(error)

    def record_first_event(self, batch: EventBatch) -> None:
        """Record the first event of a swap, if it begins with this batch."""
        self._context.accounting.record_first_event(batch)

    def close(self) -> None:
        """Reject all requests: the run is over."""
        self.reject(run_ended_error())
        self._context.swap_queue.close()

    def _record(self, swap: Swap, seq: int) -> dict[str, Any]:
        accounting = self._context.accounting
        before = accounting.models[swap.stage]
        after = {**before, "name": swap.model, "version": str(swap.version), "sha256": swap.sha256}
        record = {
            "epoch": swap.epoch, "stage": swap.stage, "from": before, "to": after, "seq": seq,
            "first_event": None,
        }  # fmt: skip
        accounting.record_swap(record)
        return record


def _log_swap(record: dict[str, Any]) -> None:
    """Log a swap that begins."""
    before, after = (f"{record[key]['name']}@{record[key]['version']}" for key in ("from", "to"))
    stage, seq = record["stage"], record["seq"]
    extra = fields("model-swapped", stage=stage, before=before, after=after, first_batch=seq)
    _LOG.info("stage %s: %s instead of %s from batch %d", stage, after, before, seq, extra=extra)
