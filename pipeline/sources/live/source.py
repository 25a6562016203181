"""Events from front ends over ZeroMQ: messages are appended to an open batch as they come."""

from __future__ import annotations

import logging
import time
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from sluice.kernels.hashing import sample_mask
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.endpoints import Security, require_authentication
from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, T_INGEST, Array, Schema
from sluice.pipeline.sources.base import NONE, Available, Losses, Rejected, within_limits
from sluice.pipeline.sources.column_spec import parse_column
from sluice.pipeline.transport.codec import Codec, record_dtype, unpack_schema
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.front_end_messages import (
    BeginOfRun,
    Busy,
    EndOfRun,
    EventAck,
    EventData,
)
from sluice.pipeline.transport.protocol import Header, Kind, pack_json
from sluice.pipeline.transport.record_receiver import RecordReceiver, open_record_receiver
from sluice.pipeline.transport.socket import Limits, Message, Socket

from .backlog import RaggedBacklog, RecordBacklog
from .front_ends import FrontEnd, FrontEnds

_LOG = logging.getLogger("sluice.source")
_MESSAGES_A_CALL = 256
_LAST_CALL_S = 1.0
#: Shares of the backlog at which front ends are told to pause, and to go on.
_HIGH, _LOW = 0.75, 0.25
_ERROR = "protocol-error"
_ERRORS = "{count:,} protocol errors of front ends, the latest of {peer!r}: {reason}"
#: Messages that ZeroMQ may hold for one front end.
_QUEUE = 1000


class LiveSource:
    """An ingest socket; see `Source`.

    A front end opens with BOR (its schema must be the declared one), sends DATA or RAW messages
    whose header counts the events sent before, and closes with EOR. A jump of that count is loss.
    Up to `backlog` events wait for a worker; beyond that events are shed, counted.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Where to listen and for what."""

        #: The record type: column name to dtype and item shape, such as ``uint32[12]``.
        columns: dict[str, str]
        listen: str = "tcp://127.0.0.1:5560"
        #: Most events that wait in memory for a worker.
        backlog: Annotated[int, Meta(ge=1, le=1 << 28)] = 262_144
        #: Most front ends at a time.
        front_ends: Annotated[int, Meta(ge=1, le=4096)] = 64
        #: Most bytes of a message; a front end that sends more is disconnected.
        message_bytes: Annotated[int, Meta(ge=4096, le=1 << 28)] = 1 << 22
        #: Who may send.
        security: Security = Security()

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        where = f"source {name!r}"
        require_authentication(options.listen, options.security, where)
        columns = [parse_column(key, form, where) for key, form in options.columns.items()]
        self._record = Schema((EVENT_ID, T_EVENT)).merge(columns)
        self.schema = self._record.merge((T_INGEST,))
        self._listen = options.listen
        self._security = options.security
        self._max_waiting = options.backlog
        self._stopped = self._busy = False
        self._share, self._salt = 0.0, 0
        self.corruption: str | None = None
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._receiver: RecordReceiver | None = None
        self._losses = Losses()
        self._refused = 0
        self._front_ends = FrontEnds(options.front_ends)
        self._limits = Limits(options.message_bytes, _QUEUE)
        self._dtype = record_dtype(self._record)
        self._codec = Codec(self._record)
        self._backlog: RecordBacklog | RaggedBacklog
        #: The backlog is one of the two: events with lists do not come as packed records.
        self._packed: RecordBacklog | None = None
        self._lists: RaggedBacklog | None = None
        if self._record.ragged:
            self._backlog = self._lists = RaggedBacklog(options.backlog)
        else:
            self._backlog = self._packed = RecordBacklog(self._record, options.backlog)

    @property
    def exhausted(self) -> bool:
        """Whether it was stopped and everything taken was given."""
        return self._stopped and not self._backlog.events

    def open(self) -> None:
        """Listen; ConfigError if the address is taken."""
        security = load_server_auth(self._security, f"source {self.name!r}")
        self.socket = Socket(self._listen, security=security, limits=self._limits)
        if self._packed is not None:
            peers = self._front_ends.peers
            self._receiver = open_record_receiver(
                self.socket, Kind.RAW, self._dtype.itemsize, peers
            )

    def receive(self) -> None:
        """Take the messages that are there, a bounded number of them."""
        if self.socket is None or self._stopped:
            return
        for _ in range(_MESSAGES_A_CALL):
            try:
                message = self._next(self.socket)
                if message is None:
                    break
                self._take(message)
            except ProtocolError as error:
                where = f"{self.name}: from {error.peer.decode(errors='replace')!r}"
                self._losses.reject(Rejected(where, error.message, b"", events=0))
                limiter.warn(_LOG, _ERROR, _ERRORS, peer=error.peer, reason=error.message)
        self._update_busy()
        self._front_ends.acknowledge(self.socket)

    def protect(self, share: float, salt: int) -> None:
        """Shed none of the events that a hash of their id draws; see `ProtectsPassThrough`."""
        self._share, self._salt = share, salt

    def available(self) -> Available:
        """Return the events that have arrived."""
        backlog = self._backlog
        return Available(backlog.events, backlog.oldest_ns) if backlog.events else NONE

    def read(self, max_events: int) -> EventBatch | None:
        """Return the oldest waiting events."""
        batch = self._backlog.take(max_events)
        if batch is not None:
            self._update_busy()
        return batch

    def stop(self) -> None:
        """Take what has arrived, then no more."""
        deadline = time.monotonic() + _LAST_CALL_S
        while self.socket is not None and self.socket.poll(0) and time.monotonic() < deadline:
            self.receive()
        if self.socket is not None and not self._stopped:
            self._front_ends.acknowledge(self.socket, now=True)
        self._stopped = True

    def losses(self) -> Losses:
        """Return and forget what was lost, shed or no event."""
        losses, self._losses = self._losses, Losses()
        if self.socket is not None:
            losses.rejected_connections = self.socket.refused - self._refused
            self._refused += losses.rejected_connections
        return losses

    def close(self) -> None:
        """Stop listening."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self.socket is not None:
            self.socket.close()

    def _next(self, socket: Socket) -> Message | None:
        """Append what nearly every message is, packed records; return the next that is not."""
        receiver, packed = self._receiver, self._packed
        if receiver is None or packed is None:
            return socket.receive()
        now_ns = time.monotonic_ns()
        taken = receiver.receive_records(packed.block, *packed.free_range, _MESSAGES_A_CALL)
        packed.commit(taken.events, now_ns)
        return receiver.next_other() if taken.another else None

    def _take(self, message: Message) -> None:
        peer, header, payload = message
        if header.kind == Kind.BOR:
            self._begin(peer, BeginOfRun.from_header(header), payload)
            return
        front_end = self._front_ends.get(peer)
        if front_end is None:
            self._answer(peer, Header(Kind.HELLO))
            raise _peer_error(peer, f"expected BOR first, got {Kind(header.kind).name}")
        if header.kind == Kind.EOR:
            self._count_gap(front_end, EndOfRun.from_header(header).next_event)
            self._answer(peer, EventAck(front_end.next_event).to_header())
            self._front_ends.unregister(peer)
        elif header.kind in (Kind.DATA, Kind.RAW):
            data = EventData.from_header(header)
            if data.first_event != front_end.next_event:
                self._count_gap(front_end, data.first_event)
            front_end.next_event = data.first_event + data.events
            try:
                if self._lists is not None:
                    self._keep(self._lists, data, payload)
                elif self._packed is not None:
                    self._append(self._packed, self._records(data, payload), data.events)
            except ProtocolError as error:
                where = f"{self.name}: source {data.source}: events from {data.first_event}"
                bytes_ = b"".join(payload)
                self._losses.reject(Rejected(where, error.message, bytes_, data.events))
                limiter.warn(_LOG, _ERROR, _ERRORS, peer=peer, reason=error.message)
        else:
            raise _peer_error(peer, f"expected BOR, DATA, RAW or EOR, got {Kind(header.kind).name}")

    def _begin(self, peer: bytes, begin: BeginOfRun, payload: list[memoryview]) -> None:
        try:
            self._compare(unpack_schema(payload[0]) if payload else Schema())
            if self.socket is not None:
                self._front_ends.register(peer, begin, self.socket)
        except ProtocolError as error:
            self._answer(peer, Header(Kind.ERROR), pack_json({"message": error.message}))
            raise _peer_error(peer, error.message) from error
        self._answer(peer, EventAck(begin.next_event, self._limits.frame_bytes).to_header())
        if self._busy:
            self._answer(peer, Busy(True).to_header())

    def _compare(self, schema: Schema) -> None:
        for column in self._record:
            got = schema[column.name].spec if column.name in schema else "no such column"
            if got != column.spec:
                raise ProtocolError(
                    f"BOR: column {column.name!r}: expected {column.spec}, got {got}"
                )
        if schema.names != self._record.names:
            raise ProtocolError(
                f"BOR: expected the columns {self._record.names} in this order, got {schema.names}"
            )

    def _count_gap(self, front_end: FrontEnd, first_event: int) -> None:
        self._losses.lost += front_end.gap(first_event)
        front_end.next_event = first_event

    def _records(self, message: EventData, payload: list[memoryview]) -> memoryview:
        """Return the packed records of a message."""
        if len(payload) != 1:
            raise ProtocolError(f"message: expected 1 payload frame, got {len(payload)}")
        if message.kind == Kind.RAW:
            wanted = message.events * self._dtype.itemsize
            if message.length != wanted:
                raise ProtocolError(
                    f"RAW message: expected {wanted} bytes for {message.events} events, "
                    f"got {message.length}"
                )
            return payload[0]
        batch = self._codec.unpack(payload[0], message.events, message.seq)
        records = np.empty(batch.events, self._dtype)
        for name in self._record.names:
            records[name] = batch[name]
        return records.view(np.uint8).data

    def _keep(self, lists: RaggedBacklog, message: EventData, payload: list[memoryview]) -> None:
        """Put the events of a message behind those that wait; each that is none is refused."""
        if message.kind != Kind.DATA or len(payload) != 1:
            raise ProtocolError(
                f"message: expected DATA in 1 payload frame, for records with lists, got "
                f"{Kind(message.kind).name} in {len(payload)}"
            )
        batch = self._codec.unpack(payload[0], message.events, message.seq)
        at = f"{self.name}: source {message.source}: event"
        batch, refused = within_limits(
            batch, self._record, lambda row: f"{at} {message.first_event + row}"
        )
        for rejected in refused:
            self._losses.reject(rejected)
        if batch.events > lists.free_events:
            rows = self._protected_rows(batch[EVENT_ID.name])
            self._losses.shed += batch.events - len(rows)
            batch = batch.take(rows)
        lists.add(batch)

    def _append(self, packed: RecordBacklog, records: memoryview, events: int) -> None:
        """Copy records behind those that wait; what the backlog has no room for is shed."""
        if events > packed.free_events:
            whole = np.frombuffer(records, self._dtype, events)
            kept = whole[self._protected_rows(whole[EVENT_ID.name])]
            self._losses.shed += events - len(kept)
            events, records = len(kept), kept.view(np.uint8).data
        packed.add(records, events)

    def _protected_rows(self, ids: Array) -> Array:
        """Return the rows of events that are not shed: those with room, and the share to spare."""
        free = self._backlog.free_events
        rest = np.ascontiguousarray(ids[free:])
        drawn = np.empty(len(rest), np.bool_)
        sample_mask(rest, self._salt, self._share, drawn)
        max_protected = self._backlog.capacity - self._backlog.events - free
        return np.concatenate([np.arange(free), free + np.flatnonzero(drawn)[:max_protected]])

    def _update_busy(self) -> None:
        """Tell the front ends to pause when the backlog fills, and to go on when it has emptied."""
        busy = self._backlog.events > (_LOW if self._busy else _HIGH) * self._max_waiting
        if busy != self._busy and self.socket is not None:
            self._busy = busy
            self._front_ends.set_busy(self.socket, busy=busy)

    def _answer(self, peer: bytes, header: Header, *payload: bytes) -> None:
        if self.socket is not None:
            self.socket.send(header, *payload, to=peer)


def _peer_error(peer: bytes, text: str) -> ProtocolError:
    error = ProtocolError(text)
    error.peer = peer
    return error
