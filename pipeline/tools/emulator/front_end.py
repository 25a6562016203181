"""A detector front end: sends events to an ingest socket at a set rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.front_end_messages import EventData

from .ingest_client import IngestClient
from .payloads import make_payloads

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
    suppressed
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
    suppressed: int = 0
    acknowledged: int = 0
    restarts: int = 0
    seconds: float = 0.0


class FrontEndEmulator:
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
        security: ClientAuth | None = None,
        first_id: int = 0,
    ) -> None:
        self._source = source
        self._stock = make_payloads(events, schema, first_id)
        self._endpoint = endpoint
        self._link = IngestClient(endpoint, schema, source, security)

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
        if most and (size := self._stock.min_bytes(per_message)) > most:
            raise self._too_long(size)
        start = time.monotonic_ns()
        period_ns = 1e9 / rate_hz
        told_ns = start
        done = 0
        while done < events:
            now = time.monotonic_ns()
            due = min(events, int((now - start) / period_ns) + 1)
            if self._link.busy:  # the detector's dead time: no event happens
                sent.suppressed += due - done
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
            header = EventData(stock.kind, self._source, sent.messages, start, count).to_header()
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
