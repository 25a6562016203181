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
from .keys import Credentials
from .transport import Socket
from .wire import Header, Kind, pack_schema, record_dtype

_ANSWER_S = 10.0
_LOOK_S = 0.1
#: Messages that are due within this time go together: a shorter sleep would burn a core.
_TICK_NS = 100_000
#: Events made ready at once.
_STOCK = 4096
_TELL_NS = 50_000_000


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
    security
        The keys to show; None for a plain connection.
    """

    def __init__(
        self,
        endpoint: str,
        events: EventBatch,
        schema: Schema,
        source: int = 1,
        security: Credentials | None = None,
    ) -> None:
        self._schema = schema
        self._source = source
        self._records = np.empty(events.events, record_dtype(schema))
        for name in schema.names:
            self._records[name] = events[name]
        self._stock, self._stocked = self._records[:0], 0
        name = f"front-end-{source}-{os.getpid()}"
        self._socket = Socket(endpoint, name, security=security)
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
        told_ns = start
        done = 0
        while done < events:
            now = time.monotonic_ns()
            due = min(events, int((now - start) / period_ns) + 1)
            if due < events:  # only the last message may be short
                due = done + (due - done) // per_message * per_message
            self._send(done, due, per_message, sent)
            done = due
            if progress is not None and now - told_ns >= _TELL_NS:
                told_ns = now
                progress(sent)
            next_ns = max(start + (done + per_message - 1) * period_ns, now + _TICK_NS)
            time.sleep(max(0.0, next_ns - time.monotonic_ns()) / 1e9)
        if progress is not None:
            progress(sent)
        sent.seconds = (time.monotonic_ns() - start) / 1e9
        self._socket.send(Header(Kind.EOR, source=self._source, first=done))
        sent.acknowledged = self._answer("EOR").first
        return sent

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _send(self, first: int, until: int, per_message: int, sent: Sent) -> None:
        """Send the events from `first` to before `until`."""
        records = self._made(first, until)
        records[T_EVENT.name] = time.time_ns()
        bytes_, size = records.view(np.uint8).data, records.itemsize
        for start in range(0, until - first, per_message):
            count = min(per_message, until - first - start)
            header = Header(Kind.RAW, 0, self._source, sent.messages, first + start, count)
            if self._socket.send(header, bytes_[start * size : (start + count) * size]):
                sent.events += count
                sent.messages += 1
            else:
                sent.dropped += count

    def _made(self, first: int, until: int) -> Array:
        """Return packed records; they are made many at once."""
        if not self._stocked <= first <= until <= self._stocked + len(self._stock):
            rows = np.arange(first, max(until, first + _STOCK), dtype=np.uint64)
            self._stocked = first
            self._stock = self._records[rows % np.uint64(len(self._records))]
            self._stock[EVENT_ID.name] = rows
        return self._stock[first - self._stocked : until - self._stocked]

    def _answer(self, to: str) -> Header:
        """Wait for the acknowledgement of BOR or EOR."""
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            message = self._socket.receive() if self._socket.poll(min(left, _LOOK_S)) else None
            if message is None:
                trouble = self._socket.trouble
                if trouble is not None and trouble.final:
                    raise RunError(f"{self._endpoint}: {trouble.why}", trouble.hint)
                continue
            _, header, payload = message
            if header.kind == Kind.ERROR:
                raise RunError(
                    f"{self._endpoint} refuses: {msgspec.json.decode(payload[0])['message']}"
                )
            if header.kind == Kind.ACK:
                return header
        trouble = self._socket.trouble
        raise RunError(
            f"{self._endpoint}: no answer to {to} in {_ANSWER_S:g} s"
            + (f": {trouble.why}" if trouble else ""),
            trouble.hint if trouble else "is `sluice run` listening there?",
        )
