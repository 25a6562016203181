"""The epochs of a run's models: one swap at a time leads from one to the next."""

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
from .swap_requests import Order, over

_LOG = logging.getLogger("sluice.engine")


class ModelEpochs:
    """Takes orders one after the other and keeps what a restarted worker must know.

    Attributes
    ----------
    epoch
        Of the models that judge what is read from now on.
    pending
        The swap that is prepared.
    config, models
        What a worker begins with: the graph with the models of the epoch before `last`.
    last
        The latest swap, while batches of the epoch before it may still be judged.
    begun
        All that have begun in this life of the run, for a sink that is restarted.
    """

    def __init__(self, plan: RunContext) -> None:
        self._plan = plan
        self._order: Order | None = None
        self._attempts = 0
        self.epoch = plan.resumed.epoch if plan.resumed else 0
        self.begun: tuple[Swap, ...] = ()
        self.pending: Swap | None = None
        self.config: GraphConfig = plan.graph.config
        self.models = plan.account.models
        self.last: Swap | None = None

    def take_request(self) -> Swap | None:
        """Take the next order, if there is one."""
        order = self._plan.orders.take()
        if order is None:
            return None
        self._attempts += 1
        manifest = order.model.manifest
        self._order = order
        self.pending = Swap(
            self._attempts, self.epoch + 1, order.stage, manifest.name, manifest.version,
            manifest.sha256,
        )  # fmt: skip
        return self.pending

    def retire_previous(self) -> None:
        """Forget the epoch before: no batch of it is left."""
        if self.last is not None:
            swap = self.last
            self.config = replace_model(self.config, swap.stage, swap.model, swap.version)
            self.models = self._plan.account.models
            self.last = None

    def activate(self, seq: int) -> None:
        """Let the pending swap begin with batch `seq`."""
        swap, order = self.pending, self._order
        if swap is None or order is None:
            return
        self.retire_previous()
        self.epoch, self.last = swap.epoch, swap
        self.begun += (swap,)
        self.pending = self._order = None
        record = self._note(swap, seq)
        _log_swap(record)
        order.accept(record)

    def refuse(self, error: SluiceError) -> None:
        """Give the pending swap up; the old model goes on."""
        order, self.pending, self._order = self._order, None, None
        if order is not None:
            extra = fields("swap-refused", stage=order.stage, reason=error.message)
            _LOG.warning("stage %s keeps its model: %s", order.stage, error.message, extra=extra)
            order.refuse(error)

    def record_first_event(self, batch: EventBatch) -> None:
        """Note the first event of a swap that begins with this batch."""
        self._plan.account.record_first_event(batch)

    def close(self) -> None:
        """Refuse whatever was ordered: the run is over."""
        self.refuse(over())
        self._plan.orders.close()

    def _note(self, swap: Swap, seq: int) -> dict[str, Any]:
        account = self._plan.account
        before = account.models[swap.stage]
        after = {**before, "name": swap.model, "version": str(swap.version), "sha256": swap.sha256}
        record = {
            "epoch": swap.epoch, "stage": swap.stage, "from": before, "to": after, "seq": seq,
            "first_event": None,
        }  # fmt: skip
        account.record_swap(record)
        return record


def _log_swap(record: dict[str, Any]) -> None:
    """Log a swap that begins."""
    before, after = (f"{record[key]['name']}@{record[key]['version']}" for key in ("from", "to"))
    stage, seq = record["stage"], record["seq"]
    extra = fields("model-swapped", stage=stage, before=before, after=after, first_batch=seq)
    _LOG.info("stage %s: %s instead of %s from batch %d", stage, after, before, seq, extra=extra)
