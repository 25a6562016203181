"""Swaps of models that somebody ordered and waits for."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from sluice.pipeline.core.errors import RunError, SluiceError
from sluice.pipeline.inference.repository import Model


def over() -> RunError:
    """Return why nothing comes of an order after the run."""
    return RunError("swap: the run ended before it")


class Order:
    """A swap that somebody waits for.

    Parameters
    ----------
    stage
        Name of the stage.
    model
        What it shall judge with.
    """

    def __init__(self, stage: str, model: Model) -> None:
        self.stage = stage
        self.model = model
        self._future: Future[dict[str, Any]] = Future()

    def accept(self, record: dict[str, Any]) -> None:
        """Say that the swap has begun."""
        with suppress(InvalidStateError):  # whoever waited has given up
            self._future.set_result(record)

    def refuse(self, error: SluiceError) -> None:
        """Say that the old model goes on, and why."""
        with suppress(InvalidStateError):
            self._future.set_exception(error)

    def wait(self, timeout_s: float) -> dict[str, Any]:
        """Return the swap's record for the report, or raise the reason for its refusal."""
        try:
            return self._future.result(timeout_s)
        except TimeoutError:
            if not self._future.cancel():  # decided this very moment
                return self._future.result(0)
            raise RunError(f"swap of stage {self.stage!r}: no answer in {timeout_s:g} s") from None

    @property
    def over(self) -> bool:
        """Whether nobody waits any more."""
        return self._future.done()


class SwapQueue:
    """Orders of one run, given from any thread, taken by the engine until the run is over."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, order: Order) -> None:
        """Add an order; RunError if the run is over."""
        with self._lock:
            if self._closed:
                raise over()
            self._orders.append(order)

    def take(self) -> Order | None:
        """Return the next order that somebody still waits for, None if there is none."""
        while self._orders:
            order = self._orders.popleft()
            if not order.over:
                return order
        return None

    def close(self) -> None:
        """Refuse what was not taken, and whatever may come."""
        with self._lock:
            self._closed = True
        while (order := self.take()) is not None:
            order.refuse(over())
