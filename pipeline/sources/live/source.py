"""The source ``live``: an ingest socket that receives events from front ends over ZeroMQ."""

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
from sluice.pipeline.transport.codec import unpack_schema
from sluice.pipeline.transport.curve_keys import load_server_auth
from sluice.pipeline.transport.front_end_messages import (
    BeginOfRun,
    Busy,
    EndOfRun,
    EventAck,
    EventData,
)
from sluice.pipeline.transport.protocol import Header, Kind, Limits, pack_json
from sluice.pipeline.transport.record_receiver import RecordReceiver, open_record_receiver
from sluice.pipeline.transport.socket import Message, Socket

from .backlog import RaggedBacklog, RecordBacklog
from .front_ends import FrontEnd, FrontEnds
from .record_type import RecordType

_LOG = logging.getLogger("sluice.source")
#: Maximum number of messages that one call of `receive` handles.
_MESSAGES_A_CALL = 256
#: Maximum time of one call of `receive`, s, beyond which no further message is taken.
_CALL_S = 0.005
#: Maximum time for the messages that have arrived when the source is stopped, s.
_LAST_CALL_S = 1.0
#: Fill levels of the backlog at which front ends are asked to pause, and to go on.
_HIGH, _LOW = 0.75, 0.25
_ERROR = "protocol-error"
_ERRORS = "{count:,} protocol errors of front ends, the latest of {peer!r}: {reason}"
#: Maximum number of messages, and of bytes, in ZeroMQ's receive queue of one front end.
_QUEUE, _QUEUE_BYTES = 1000, 256 << 20


class LiveSource:
    """Receives events from front ends.

    A front end opens with BOR (its schema must be the declared one), sends DATA or RAW messages
    whose header has the number of events sent before, and closes with EOR. A gap in that number
    counts as lost events. Up to `backlog` events wait for a worker; further events are shed.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Endpoint, columns and limits."""

        #: Columns of an event: name to dtype and item shape, such as ``uint32[12]``.
        columns: dict[str, str]
        #: Endpoint, ``tcp://HOST:PORT`` or ``ipc://PATH``.
        listen: str = "tcp://127.0.0.1:5560"
        #: Maximum number of events that wait for a worker.
        backlog: Annotated[int, Meta(ge=1, le=1 << 28)] = 262_144
        #: Maximum number of front ends at a time.
        front_ends: Annotated[int, Meta(ge=1, le=4096)] = 64
        #: Maximum size of a message, bytes; a front end that sends a larger one is disconnected.
        message_bytes: Annotated[int, Meta(ge=4096, le=1 << 28)] = 1 << 22
        #: Keys of the socket and of the front ends that may connect.
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
        self._stopped = self._busy = False
        self._share, self._salt = 0.0, 0
        self.corruption: str | None = None
        self.expected: int | None = None
        self.socket: Socket | None = None
        self._receiver: RecordReceiver | None = None
        self._losses = Losses()
        self._refused = 0
        self._front_ends = FrontEnds(options.front_ends)
        queue = max(2, min(_QUEUE, _QUEUE_BYTES // options.message_bytes))
        self._limits = Limits(options.message_bytes, queue)
        self._record_type = RecordType(self._record)
        self._backlog: RecordBacklog | RaggedBacklog
        #: One of the two is the backlog, the other None: ragged columns are not sent as records.
        self._packed: RecordBacklog | None = None
        self._lists: RaggedBacklog | None = None
        if self._record.ragged:
            self._backlog = self._lists = RaggedBacklog(options.backlog)
        else:
            self._backlog = self._packed = RecordBacklog(self._record, options.backlog)

    @property
    def exhausted(self) -> bool:
        """Whether the source was stopped and all events that arrived were read."""
        return self._stopped and not self._backlog.events

    def open(self) -> None:
        """Bind the socket; ConfigError if the address is in use."""
        security = load_server_auth(self._security, f"source {self.name!r}")
        self.socket = Socket(self._listen, security=security, limits=self._limits)
        if self._packed is not None:
            peers = self._front_ends.peers
            self._receiver = open_record_receiver(
                self.socket, Kind.RAW, self._record_type.dtype.itemsize, peers
            )

    def receive(self) -> None:
        """Handle the messages that have arrived, up to a maximum number and time."""
        if self.socket is None or self._stopped:
            return
        deadline_s = time.monotonic() + _CALL_S
        for _ in range(_MESSAGES_A_CALL):
            if time.monotonic() > deadline_s:
                break
            try:
                message = self._next(self.socket, deadline_s)
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
        """Shed none of the events in the pass-through sample of `share` and `salt`."""
        self._share, self._salt = share, salt

    def available(self) -> Available:
        """Return the events that have arrived."""
        backlog = self._backlog
        return Available(backlog.events, backlog.oldest_ns) if backlog.events else NONE

    def read(self, max_events: int) -> EventBatch | None:
        """Return up to `max_events` of the oldest waiting events; None if there are none."""
        batch = self._backlog.take(max_events)
        if batch is not None:
            self._update_busy()
        return batch

    def stop(self) -> None:
        """Handle the messages that have arrived, then receive no more."""
        deadline = time.monotonic() + _LAST_CALL_S
        while self.socket is not None and self.socket.poll(0) and time.monotonic() < deadline:
            self.receive()
        if self.socket is not None and not self._stopped:
            self._front_ends.acknowledge(self.socket, now=True)
        self._stopped = True

    def losses(self) -> Losses:
        """Return the lost, shed and invalid events since the last call."""
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

    def _next(self, socket: Socket, deadline_s: float) -> Message | None:
        """Append all messages of packed records to the backlog; return the next other message."""
        receiver, packed = self._receiver, self._packed
        if receiver is None or packed is None:
            return socket.receive()
        while True:
            now_ns = time.monotonic_ns()
            taken = receiver.receive_records(packed.block, *packed.free_range, _MESSAGES_A_CALL)
            packed.commit(taken.events, now_ns)
            if taken.another:
                return receiver.next_other()
            if taken.messages < _MESSAGES_A_CALL or time.monotonic() > deadline_s:
                return None

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
                    records = self._record_type.packed(data, payload)
                    self._append(self._packed, records, data.events)
            except ProtocolError as error:
                where = f"{self.name}: source {data.source}: events from {data.first_event}"
                bytes_ = b"".join(payload)
                self._losses.reject(Rejected(where, error.message, bytes_, data.events))
                limiter.warn(_LOG, _ERROR, _ERRORS, peer=peer, reason=error.message)
        else:
            raise _peer_error(peer, f"expected BOR, DATA, RAW or EOR, got {Kind(header.kind).name}")

    def _begin(self, peer: bytes, begin: BeginOfRun, payload: list[memoryview]) -> None:
        try:
            self._record_type.require_same(unpack_schema(payload[0]) if payload else Schema())
            if self.socket is not None:
                self._front_ends.register(peer, begin, self.socket)
        except ProtocolError as error:
            self._answer(peer, Header(Kind.ERROR), pack_json({"message": error.message}))
            raise _peer_error(peer, error.message) from error
        self._answer(peer, EventAck(begin.next_event, self._limits.frame_bytes).to_header())
        if self._busy:
            self._answer(peer, Busy(True).to_header())

    def _count_gap(self, front_end: FrontEnd, first_event: int) -> None:
        self._losses.lost += front_end.gap(first_event)
        front_end.next_event = first_event

    def _keep(self, lists: RaggedBacklog, message: EventData, payload: list[memoryview]) -> None:
        """Append the valid events of a message to the backlog; reject the others."""
        if message.kind != Kind.DATA or len(payload) != 1:
            raise ProtocolError(
                f"message: expected DATA in 1 payload frame, for records with lists, got "
                f"{Kind(message.kind).name} in {len(payload)}"
            )
        batch = self._record_type.codec.unpack(payload[0], message.events, message.seq)
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
        """Append records to the backlog; shed those that do not fit."""
        if events > packed.free_events:
            whole = np.frombuffer(records, self._record_type.dtype, events)
            kept = whole[self._protected_rows(whole[EVENT_ID.name])]
            self._losses.shed += events - len(kept)
            events, records = len(kept), kept.view(np.uint8).data
        packed.add(records, events)

    def _protected_rows(self, ids: Array) -> Array:
        """Return the rows that are not shed: those that fit, and the pass-through sample behind."""
        free = self._backlog.free_events
        rest = np.ascontiguousarray(ids[free:])
        drawn = np.empty(len(rest), np.bool_)
        sample_mask(rest, self._salt, self._share, drawn)
        max_protected = self._backlog.capacity - self._backlog.events - free
        return np.concatenate([np.arange(free), free + np.flatnonzero(drawn)[:max_protected]])

    def _update_busy(self) -> None:
        """Ask the front ends to pause when the backlog is nearly full, and later to go on."""
        busy = self._backlog.fill > (_LOW if self._busy else _HIGH)
        if busy != self._busy and self.socket is not None:
            self._busy = busy
            self._front_ends.set_busy(self.socket, busy=busy)

    def _answer(self, peer: bytes, header: Header, *payload: bytes) -> None:
        if self.socket is not None:
            self.socket.send(header, *payload, to=peer)


def _peer_error(peer: bytes, text: str) -> ProtocolError:
    """Return a ProtocolError with the identity of the sender."""
    error = ProtocolError(text)
    error.peer = peer
    return error
