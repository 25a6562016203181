"""A detector front end: sends events to an ingest socket at a set rate."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Array, Schema
from sluice.pipeline.transport.curve_keys import ClientAuth
from sluice.pipeline.transport.front_end_messages import EventData

from .ingest_client import IngestClient
from .payloads import make_payloads

#: Messages due within this time are sent together, ns: a shorter sleep would take a whole core.
_TICK_NS = 100_000
#: Time between two calls of the progress callback, ns.
_REPORT_NS = 50_000_000


class Sent(Struct, kw_only=True):
    """Counts of one front end.

    Attributes
    ----------
    events, messages
        Events and messages sent.
    dropped
        Events that could not be sent, because the queue was full or ingest did not run; ingest
        counts them as lost.
    suppressed
        Events that were not made because ingest was busy; no event counter has them.
    acknowledged
        Events that ingest acknowledged at the end, dropped ones included.
    restarts
        Number of times that ingest had been restarted and was sent BOR again.
    seconds
        Time from the first to the last message, s.
    """

    events: int = 0
    messages: int = 0
    dropped: int = 0
    suppressed: int = 0
    acknowledged: int = 0
    restarts: int = 0
    seconds: float = 0.0

    @property
    def due(self) -> int:
        """Number of events that were due: sent, dropped or suppressed."""
        return self.events + self.dropped + self.suppressed


class FrontEndEmulator:
    """Sends the same events again and again, with new ids and times.

    `t_event` is the Unix time at which the message was due, ns, whenever it is sent: a front end
    that could not keep up with its rate does not make the latency of its events shorter.

    Parameters
    ----------
    endpoint
        Endpoint of the ingest socket.
    events
        Events to send, over and over; `event_id` and `t_event` are replaced.
    schema
        Record type of the messages.
    source
        Source number of this front end.
    security
        CURVE keys; None for a plain connection.
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
        self._payloads = make_payloads(events, schema, first_id)
        self._endpoint = endpoint
        self._link = IngestClient(endpoint, schema, source, security)

    def run(
        self,
        rate_hz: float,
        events: int,
        per_message: int = 1,
        progress: Callable[[Sent], None] | None = None,
    ) -> Sent:
        """Send `events` events at `rate_hz` per second, `per_message` in a message.

        Raises
        ------
        RunError
            If ingest does not answer, or refuses the record type.
        """
        sent = Sent()
        self._link.begin()
        max_bytes = self._link.max_bytes
        if max_bytes and (size := self._payloads.min_bytes(per_message)) > max_bytes:
            raise self._too_long(size)
        start = time.monotonic_ns()
        unix_ns = time.time_ns() - start
        period_ns = 1e9 / rate_hz
        last_report_ns = start
        done = 0
        while done < events:
            now = time.monotonic_ns()
            due = min(events, int((now - start) / period_ns) + 1)
            if self._link.busy:  # dead time of the detector: no event is generated
                sent.suppressed += due - done
                start += round((due - done) * period_ns)
                events, due = events - due + done, done
            elif due < events:  # only the last message may be short
                due = done + (due - done) // per_message * per_message
            due_ns = _due_ns(start + unix_ns, period_ns, done, due, per_message)
            self._send(done, due_ns, per_message, sent)
            done = due
            self._link.receive_all()
            if progress is not None and now - last_report_ns >= _REPORT_NS:
                last_report_ns = now
                progress(sent)
            next_ns = max(start + (done + per_message - 1) * period_ns, now + _TICK_NS)
            time.sleep(max(0.0, next_ns - time.monotonic_ns()) / 1e9)
        if progress is not None:
            progress(sent)
        sent.seconds = (time.monotonic_ns() - start) / 1e9
        self._link.end(done)
        sent.acknowledged, sent.restarts = self._link.acknowledged, self._link.begun
        return sent

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _send(self, first: int, due_ns: Array, per_message: int, sent: Sent) -> None:
        """Send the events from `first` on, one for each time at which they were due."""
        payloads, max_bytes = self._payloads, self._link.max_bytes
        until = first + len(due_ns)
        payloads.prepare(first, due_ns)
        for start in range(first, until, per_message):
            count = min(per_message, until - start)
            header = EventData(payloads.kind, self._source, sent.messages, start, count).to_header()
            payload = payloads.message(start, count)
            if max_bytes and len(payload) > max_bytes:
                raise self._too_long(len(payload))
            if self._link.send(header, payload):
                sent.events += count
                sent.messages += 1
            else:
                sent.dropped += count

    def _too_long(self, size: int) -> RunError:
        return RunError(
            f"{self._endpoint} takes messages of at most {self._link.max_bytes} bytes, got {size}",
            hint="send fewer events in a message, or raise `message_bytes` of the source",
        )


def _due_ns(start_ns: int, period_ns: float, first: int, until: int, per_message: int) -> Array:
    """Return when the message of each event from `first` to before `until` was due, int64 ns.

    That is when the last event of the message was; the first of all events is due at `start_ns`.
    """
    places = np.arange(until - first)
    last = np.minimum(places // per_message * per_message + per_message, until - first) - 1
    return start_ns + ((first + last) * period_ns).astype(np.int64)
