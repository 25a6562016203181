"""A client over the front ends' protocol."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Any

import numpy as np
from events import LOOK_AT, Events

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.sources.column_spec import parse_column
from sluice.pipeline.tools.emulator.ingest_client import IngestClient
from sluice.pipeline.transport.codec import record_dtype
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import Kind

_LATENT_BYTES = 64
_READY_S = 120.0
#: Events that get their ids at once, so that sending single ones stays cheap.
_TOGETHER = 256


def _begin(endpoint: str, schema: Schema) -> IngestClient:
    """Return a front end's link; ingest answers when every model is warm."""
    deadline = time.monotonic() + _READY_S
    while True:
        link = IngestClient(endpoint, schema, 1, None)
        try:
            link.begin()
            return link
        except RunError:
            link.close()
            if time.monotonic() > deadline:
                raise


class SluiceLink:
    """Packed records to the ingest socket; ids and results from the reply sink."""

    loses = False

    def __init__(self, events: Events, port: int, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self._events = events
        name, form = os.environ["PEER_COLUMN"].split("=")
        schema = Schema((EVENT_ID, T_EVENT, parse_column(name, form, "peer")))
        given = np.load(f"{os.environ['PEER_EVENTS']}/{name}.npy")
        self._records = np.zeros(len(given), record_dtype(schema))
        self._records[name] = given
        self._ids = self._records["event_id"]
        self._bytes = self._records.view(np.uint8).data
        self._raw = int(Kind.RAW)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.environ["PEER_REPLY"])
        listener.listen(1)
        listener.settimeout(120)
        self._replies, _ = listener.accept()
        listener.close()
        self._replies.setblocking(False)
        self._unread = bytearray()
        self._buffer = memoryview(bytearray(1 << 20))
        self._link = _begin(f"tcp://127.0.0.1:{port}", schema)
        self._left: dict[int, int] = {}
        self._base = self._next = 0

    def send(self, number: int) -> None:
        """Send a RAW message."""
        size = self._events.size
        if number == 0:  # a new measurement; ids continue
            self._base = self._next
        first = (self._base + number) * size
        at = number % self._events.messages * size
        if at % _TOGETHER == 0:  # the previous ids were sent, so copied
            ids = self._ids[at : at + max(size, _TOGETHER)]
            ids[:] = np.arange(first, first + len(ids))
        if size > 1:
            self._left[self._base + number] = size
        header = EventData(self._raw, 1, self._next, first, size).to_header()
        record = self._records.itemsize
        self._link.send(header, self._bytes[at * record : (at + size) * record])
        self._next = self._base + number + 1
        if number % 64 == 0:
            self._link.receive_all()

    def wait(self, timeout_s: float) -> list[int]:
        """Return the numbers of the messages that were answered (`Link.wait`)."""
        ready, _, _ = select.select([self._replies], [], [], timeout_s)
        if not ready:
            return []
        got = self._replies.recv_into(self._buffer)
        if not got:
            raise ConnectionError("the sink hung up")
        self._unread += self._buffer[:got]
        numbers: list[int] = []
        start = 0
        while len(self._unread) - start >= 16:
            events, value_bytes = struct.unpack_from("<QQ", self._unread, start)
            end = start + 16 + events * 8 + value_bytes
            if len(self._unread) < end:
                break
            block = bytes(memoryview(self._unread)[start + 16 : end])
            numbers += self._settle(block, events, value_bytes // events)
            start = end
        del self._unread[:start]
        return numbers

    def _settle(self, block: bytes, events: int, width: int) -> list[int]:
        """Return the messages that are answered with these events."""
        ids = np.frombuffer(block, np.int64, events)
        if self._events.size > 1:
            return self._count_down(ids, block, width)
        numbers = [number for number in (ids - self._base).tolist() if number >= 0]
        for at, number in enumerate(numbers, events - len(numbers)):
            if number % LOOK_AT == 0 and width == _LATENT_BYTES:
                start = events * 8 + at * width
                self._events.look_at(number, block[start : start + width])
        return numbers

    def _count_down(self, ids: Any, block: bytes, width: int) -> list[int]:
        """Return the messages whose last events have arrived."""
        size, events = self._events.size, len(ids)
        done: list[int] = []
        messages = ids // size
        firsts = np.flatnonzero(np.diff(messages, prepend=-1))
        counts = np.diff(firsts, append=events)
        for message, first, count in zip(
            messages[firsts].tolist(), firsts.tolist(), counts.tolist(), strict=True
        ):
            left = self._left[message] - count
            if left:
                self._left[message] = left
                continue
            del self._left[message]
            number = message - self._base
            if number >= 0:
                done.append(number)
                if count == size and width == _LATENT_BYTES:
                    at = events * 8 + first * width
                    self._events.look_at(number, block[at : at + size * width])
        return done

    def errors(self) -> int:
        """Return the number of wrong answers (`Link.errors`)."""
        return self._events.wrong

    def close(self) -> None:
        """Send the end of the run, and close."""
        self._link.end(self._next * self._events.size)
        self._link.close()
        self._replies.close()
