"""A client over PV Access."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from typing import Any

import numpy as np
import pvaccess as pva
from events import LOOK_AT, Events


class PvaLink:
    """Two PVs: the client serves the images' and watches the latents'."""

    loses = True

    def __init__(self, events: Events, _: int, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self._events = events
        self._done: deque[tuple[int, bytes]] = deque()
        self._object = pva.PvObject({"uniqueId": pva.LONG, "value": [pva.FLOAT]})
        self._object["uniqueId"] = -1
        self._object["value"] = events.rows(0, events.images).reshape(-1)
        self._flat = [events.rows(n, events.images).reshape(-1) for n in range(events.messages)]
        self._server = pva.PvaServer("peer:images", self._object)
        self._channel = pva.Channel("peer:latents")
        self._signal, self._signalled = os.pipe()
        self._base = self._next = 0
        self._begin()

    def _begin(self) -> None:
        """Send until the consumer answers: it makes its output when it has seen an input."""
        deadline = time.monotonic() + 30
        watching = False
        while time.monotonic() < deadline:
            self._server.update("peer:images", self._object)
            time.sleep(0.2)
            if not watching:
                self._channel.setConnectionCallback(lambda _: None)
                self._channel.monitor(self._take, "record[queueSize=4096]field()")
                watching = True
            if self._done:
                time.sleep(0.5)
                self._done.clear()
                self._wake()
                os.read(self._signal, 1 << 16)
                return
        raise ConnectionError("pvapy-hpc-consumer does not answer")

    def _wake(self) -> None:
        os.write(self._signalled, b".")

    def _take(self, answer: Any) -> None:
        self._done.append((answer["uniqueId"], np.array(answer["value"], np.float32).tobytes()))
        self._wake()

    def send(self, number: int) -> None:
        """Update the PV."""
        if number == 0:  # of a new measurement; ids go on
            self._base = self._next
        self._next = self._base + number + 1
        update = pva.PvObject({"uniqueId": pva.LONG, "value": [pva.FLOAT]})
        update["uniqueId"] = self._base + number
        update["value"] = self._flat[number % len(self._flat)]
        self._server.update("peer:images", update)

    def wait(self, timeout_s: float) -> list[int]:
        """Return the numbers of the messages that were answered (`Link.wait`)."""
        if not self._done:
            select.select([self._signal], [], [], timeout_s)
        ready, _, _ = select.select([self._signal], [], [], 0)
        if ready:
            os.read(self._signal, 1 << 16)
        numbers = []
        while self._done:
            number, latents = self._done.popleft()
            number -= self._base
            if number >= 0:
                if number % LOOK_AT == 0:
                    self._events.look_at(number, latents)
                numbers.append(number)
        return numbers

    def errors(self) -> int:
        """Return the number of wrong answers (`Link.errors`)."""
        return self._events.wrong

    def close(self) -> None:
        """Close the connection."""
        self._channel.stopMonitor()
        self._server.stop()
