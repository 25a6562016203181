"""A detector front end: sends events to an ingest socket at a set rate."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from .batch import EventBatch
from .errors import RunError
from .keys import Credentials
from .schema import Schema
from .stock import stock_of
from .transport import Socket
from .wire import Header, Kind, ProtocolError, pack_schema, unpack_text

_ANSWER_S = 10.0
_LOOK_S = 0.1
#: Ingest answers BOR sooner than this, or it was lost.
_AGAIN_S = 1.0
#: Messages that are due within this time go together: a shorter sleep would burn a core.
_TICK_NS = 100_000
_TELL_NS = 50_000_000


class Sent(Struct):
    """What a front end has done.

    Attributes
    ----------
    events, messages
        Sent.
    dropped
        Events that could not be sent, the queue full or ingest away; ingest sees them as a gap.
    vetoed
        Events that did not happen because ingest was busy; they are in no counter.
    acknowledged
        Events of which ingest said at the end that it knows them, dropped ones included.
    restarts
        How often ingest had forgotten this front end and was told anew what comes.
    seconds
        From the first to the last message.
    """

    events: int = 0
    messages: int = 0
    dropped: int = 0
    vetoed: int = 0
    acknowledged: int = 0
    restarts: int = 0
    seconds: float = 0.0


class Link:
    """A front end's side of the talk with ingest, which may go away and come back.

    Ingest tells now and then how far it has understood. One that was started anew knows nobody and
    says HELLO; it is told from where on to count, so that what it never saw shows as lost.

    Parameters
    ----------
    endpoint, schema, source, security
        See `FrontEnd`.
    """

    def __init__(
        self, endpoint: str, schema: Schema, source: int, security: Credentials | None
    ) -> None:
        name = f"front-end-{source}-{os.getpid()}"
        self._socket = Socket(endpoint, name, security=security, hoards=False)
        self._endpoint = endpoint
        self._schema = pack_schema(schema)
        self._source = source
        self._asked_s = -math.inf
        #: The event counter up to which ingest has said that it understood.
        self.understood = 0
        self.begun = 0
        #: Most bytes of a message; 0 for no limit.
        self.most_bytes = 0
        #: Whether ingest has asked for a pause.
        self.busy = False
        self.send = self._socket.send
        self.close = self._socket.close

    def begin(self) -> None:
        """Say what will come, wait until ingest agrees; RunError if it does not."""
        self._insist(Header(Kind.BOR, source=self._source), self._schema)
        self._await("BOR", self._look)

    def look(self) -> None:
        """Take what ingest has said; a new ingest is told anew what will come."""
        while self._look() is not None:
            pass

    def end(self, first: int) -> None:
        """Say that `first` events were all, wait until ingest has understood."""

        def finished() -> bool:
            begun = self.begun
            header = self._look()
            if self.begun != begun:  # to an ingest that was not there before
                self._insist(last)
            return header is not None and header.kind == Kind.ACK and header.first >= first

        last = Header(Kind.EOR, source=self._source, first=first)
        self._insist(last)
        self._await("EOR", finished)

    def _look(self) -> Header | None:
        """Take one message, if there is one."""
        try:
            message = self._socket.receive()
        except ProtocolError as error:
            raise RunError(f"{self._endpoint}: {error.message}", error.hint) from error
        if message is None:
            return None
        _, header, payload = message
        if header.kind == Kind.ERROR:
            why = unpack_text(payload, dict[str, str], "ERROR").get(
                "message", "it does not say why"
            )
            raise RunError(f"{self._endpoint} refuses: {why}")
        if header.kind == Kind.ACK:
            self._asked_s = -math.inf
            self.understood = max(self.understood, header.first)
            self.most_bytes = header.aux or self.most_bytes
        elif header.kind == Kind.BUSY:
            self.busy = header.aux != 0
        elif header.kind == Kind.HELLO and time.monotonic() - self._asked_s > _AGAIN_S:
            self.busy = False
            self._asked_s = time.monotonic()  # one HELLO comes for each message it did not know
            begin = Header(Kind.BOR, source=self._source, first=self.understood)
            self.begun += self.send(begin, self._schema)
        return header

    def _insist(self, header: Header, *payload: Any) -> None:
        """Send as soon as there is a connection."""
        deadline = time.monotonic() + _ANSWER_S
        while not self.send(header, *payload):
            self._give_up(Kind(header.kind).name, deadline)
            self._socket.poll(_LOOK_S)

    def _await(self, to: str, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not (self._socket.poll(_LOOK_S) and done()):
            self._give_up(to, deadline)

    def _give_up(self, to: str, deadline: float) -> None:
        """Raise RunError if it is of no use to wait, or waiting was long enough."""
        trouble = self._socket.trouble
        if trouble is not None and trouble.final:
            raise RunError(f"{self._endpoint}: {trouble.why}", trouble.hint)
        if time.monotonic() > deadline:
            raise RunError(
                f"{self._endpoint}: no answer to {to} in {_ANSWER_S:g} s"
                + (f": {trouble.why}" if trouble else ""),
                trouble.hint if trouble else "is `sluice run` listening there?",
            )


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
    first_id
        Id of the first event; the others count up from it.
    """

    def __init__(
        self,
        endpoint: str,
        events: EventBatch,
        schema: Schema,
        source: int = 1,
        security: Credentials | None = None,
        first_id: int = 0,
    ) -> None:
        self._source = source
        self._stock = stock_of(events, schema, first_id)
        self._endpoint = endpoint
        self._link = Link(endpoint, schema, source, security)

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
        self._link.begin()
        most = self._link.most_bytes
        if most and (size := self._stock.least_bytes(per_message)) > most:
            raise self._too_long(size)
        start = time.monotonic_ns()
        period_ns = 1e9 / rate_hz
        told_ns = start
        done = 0
        while done < events:
            now = time.monotonic_ns()
            due = min(events, int((now - start) / period_ns) + 1)
            if self._link.busy:  # the detector's dead time: no event happens
                sent.vetoed += due - done
                start += round((due - done) * period_ns)
                events, due = events - due + done, done
            elif due < events:  # only the last message may be short
                due = done + (due - done) // per_message * per_message
            self._send(done, due, per_message, sent)
            done = due
            self._link.look()
            if progress is not None and now - told_ns >= _TELL_NS:
                told_ns = now
                progress(sent)
            next_ns = max(start + (done + per_message - 1) * period_ns, now + _TICK_NS)
            time.sleep(max(0.0, next_ns - time.monotonic_ns()) / 1e9)
        if progress is not None:
            progress(sent)
        sent.seconds = (time.monotonic_ns() - start) / 1e9
        self._link.end(done)
        sent.acknowledged, sent.restarts = self._link.understood, self._link.begun
        return sent

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _send(self, first: int, until: int, per_message: int, sent: Sent) -> None:
        """Send the events from `first` to before `until`."""
        stock, most = self._stock, self._link.most_bytes
        stock.prepare(first, until, time.time_ns())
        for start in range(first, until, per_message):
            count = min(per_message, until - start)
            header = Header(stock.kind, 0, self._source, sent.messages, start, count)
            payload = stock.message(start, count)
            if most and len(payload) > most:
                raise self._too_long(len(payload))
            if self._link.send(header, payload):
                sent.events += count
                sent.messages += 1
            else:
                sent.dropped += count

    def _too_long(self, size: int) -> RunError:
        return RunError(
            f"{self._endpoint} takes messages of at most {self._link.most_bytes} bytes, got {size}",
            hint="send fewer events in a message, or raise `message_bytes` of the source",
        )
