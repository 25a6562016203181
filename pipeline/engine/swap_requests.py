"""Requests to swap a model during a run, and the queue of them."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from sluice.pipeline.core.errors import RunError, SluiceError
from sluice.pipeline.inference.repository import Model


def run_ended_error() -> RunError:
    """Return the error of a request that the run did not reach before its end."""
    return RunError("swap: the run ended before it")


class SwapRequest:
    """A request for a model swap whose sender waits for its outcome.

    Parameters
    ----------
    stage
        Name of the stage.
    model
        The model that the stage shall run.
    """

    def __init__(self, stage: str, model: Model) -> None:
        self.stage = stage
        self.model = model
        self._future: Future[dict[str, Any]] = Future()

    def resolve(self, record: dict[str, Any]) -> None:
        """Report that the swap has begun."""
        with suppress(InvalidStateError):  # the sender waits no longer
            self._future.set_result(record)

    def reject(self, error: SluiceError) -> None:
        """Report that the stage keeps its model, and why."""
        with suppress(InvalidStateError):
            self._future.set_exception(error)

    def wait(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the outcome: return the swap's record for the report, or raise its error.

        RunError if there is no outcome within `timeout_s` seconds.
        """
        try:
            return self._future.result(timeout_s)
        except TimeoutError:
            if not self._future.cancel():  # it was resolved in the meantime
                return self._future.result(0)
            raise RunError(f"swap of stage {self.stage!r}: no answer in {timeout_s:g} s") from None

    @property
    def done(self) -> bool:
        """Whether the request was resolved, rejected or abandoned."""
        return self._future.done()


class SwapQueue:
    """Swap requests of one run: put by any thread, taken by the engine."""

    def __init__(self) -> None:
        self._requests: deque[SwapRequest] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, request: SwapRequest) -> None:
        """Add a request; RunError if the run is over."""
        with self._lock:
            if self._closed:
                raise run_ended_error()
            self._requests.append(request)

    def take(self) -> SwapRequest | None:
        """Return the next request whose sender still waits, None if there is none."""
        while self._requests:
            request = self._requests.popleft()
            if not request.done:
                return request
        return None

    def close(self) -> None:
        """Reject the requests in the queue and all later ones."""
        with self._lock:
            self._closed = True
        while (request := self.take()) is not None:
            request.reject(run_ended_error())
