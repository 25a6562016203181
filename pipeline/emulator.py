"""A detector front end: sends events to an ingest socket at a set rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct

from .batch import EVENT_ID, T_EVENT, Array, EventBatch, Schema
from .errors import RunError
from .transport import Socket
from .wire import Header, Kind, pack_schema, record_dtype

_ANSWER_S = 10.0


class Sent(Struct):
    """What a front end has done.

    Attributes
    ----------
    events, messages
        Sent.
    dropped
        Events that could not be sent because the queue was full; ingest sees them as a gap.
    acknowledged
        Events of which ingest said at the end that it knows them, dropped ones included.
    seconds
        From the first to the last message.
    """

    events: int = 0
    messages: int = 0
    dropped: int = 0
    acknowledged: int = 0
    seconds: float = 0.0


class FrontEnd:
    """Sends the same events over and over, with fresh ids and times.

    Parameters
    ----------
    endpoint
        The ingest socket.
    events
        What to send; its columns but `t_ingest` make the record type.
    schema
        The record type.
    source
        The number of this front end.
    """

    def __init__(self, endpoint: str, events: EventBatch, schema: Schema, source: int = 1) -> None:
        self._schema = schema
        self._source = source
        self._records = np.empty(events.events, record_dtype(schema))
        for name in schema.names:
            self._records[name] = events[name]
        self._socket = Socket(endpoint, f"front-end-{source}-{os.getpid()}")
        self._endpoint = endpoint

    def run(
        self,
        rate_hz: float,
        events: int,
        per_message: int = 1,
        progress: Callable[[Sent], None] | None = None,
    ) -> Sent:
        """Send `events` events, `rate_hz` a second, `per_message` in a message.

        Raises
        ------
        RunError
            If nobody answers at the endpoint, or the record type is refused.
        """
        sent = Sent()
        schema = pack_schema(self._schema)
        self._socket.send(Header(Kind.BOR, source=self._source), schema)
        self._answer("BOR")
        start = time.monotonic_ns()
        period_ns = 1e9 / rate_hz
        done = 0
        while done < events:
            now = time.monotonic_ns()
            due = min(events, int((now - start) / period_ns) + 1)
            while done < due:
                count = min(per_message, events - done)
                self._send(done, count, sent)
                done += count
            if progress is not None:
                progress(sent)
            early_s = (start + done * period_ns - time.monotonic_ns()) / 1e9
            if early_s > 0:
                self._socket.poll(early_s)
        sent.seconds = (time.monotonic_ns() - start) / 1e9
        self._socket.send(Header(Kind.EOR, source=self._source, first=done))
        sent.acknowledged = self._answer("EOR").first
        return sent

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _send(self, first: int, count: int, sent: Sent) -> None:
        rows = np.arange(first, first + count)
        records: Array = self._records[rows % len(self._records)]
        records[EVENT_ID.name] = rows
        records[T_EVENT.name] = time.time_ns()
        header = Header(Kind.RAW, source=self._source, seq=sent.messages, first=first, events=count)
        if self._socket.send(header, records.tobytes()):
            sent.events += count
            sent.messages += 1
        else:
            sent.dropped += count

    def _answer(self, to: str) -> Header:
        """Wait for the acknowledgement of BOR or EOR."""
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            message = self._socket.receive() if self._socket.poll(left) else None
            if message is None:
                continue
            _, header, payload = message
            if header.kind == Kind.ERROR:
                raise RunError(
                    f"{self._endpoint} refuses: {msgspec.json.decode(payload[0])['message']}"
                )
            if header.kind == Kind.ACK:
                return header
        raise RunError(
            f"{self._endpoint}: no answer to {to} in {_ANSWER_S:g} s",
            hint="is `sluice run` listening there?",
        )
