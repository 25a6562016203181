"""Messages of records without Python: what is plain a kernel takes, the rest comes out as ever."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import zmq.backend.cython._zmq as _binding

from sluice.pipeline.core.schema import Array

from .protocol import MAX_EVENTS, Header, encode
from .receive_loop import CALLS, EVENTS, HELD, MESSAGES, NAME_BYTES, receive_records
from .socket import Message, Socket

#: Of a `zmq_msg_t`.
_MESSAGE_BYTES = 64
#: ZeroMQ's library, by way of the binding that is linked with it.
_LIBRARY = ctypes.CDLL(_binding.__file__)
for _name, _result in (
    ("zmq_msg_init", ctypes.c_int), ("zmq_msg_close", ctypes.c_int),
    ("zmq_msg_more", ctypes.c_int), ("zmq_msg_size", ctypes.c_size_t),
    ("zmq_msg_data", ctypes.c_void_p),
):  # fmt: skip
    _function = getattr(_LIBRARY, _name)
    _function.argtypes, _function.restype = (ctypes.c_void_p,), _result


class Received(NamedTuple):
    """What came off a socket: plain messages, their events, and whether another kind came next."""

    messages: int
    events: int
    another: bool


@dataclass(slots=True)
class PeerTable:
    """Peers that a kernel knows, a row each.

    Attributes
    ----------
    names
        uint8 (most, 255): their identities.
    sizes
        int64 (most,): the identities' lengths; 0 where a row is free.
    expected
        uint64 (most,): number of the next event of each.
    """

    most: int
    names: Array = field(init=False)
    sizes: Array = field(init=False)
    expected: Array = field(init=False)

    def __post_init__(self) -> None:
        self.names = np.zeros((self.most, NAME_BYTES), np.uint8)
        self.sizes = np.zeros(self.most, np.int64)
        self.expected = np.zeros(self.most, np.uint64)

    def add(self, name: bytes, event: int) -> int:
        """Know a peer, whose next event has this number; return its row. There must be one free."""
        row = int(np.flatnonzero(self.sizes == 0)[0])
        self.names[row, : len(name)] = np.frombuffer(name, np.uint8)
        self.sizes[row], self.expected[row] = len(name), event
        return row

    def drop(self, row: int) -> None:
        """Know a peer no more."""
        self.sizes[row] = 0


class RecordReceiver:
    """Takes messages off a ROUTER, those of records by a kernel.

    Parameters
    ----------
    socket
        The ROUTER.
    kind
        Of messages that hold records.
    record_bytes
        Of a record.
    peers
        Whose messages the kernel takes.
    """

    def __init__(self, socket: Socket, kind: int, record_bytes: int, peers: PeerTable) -> None:
        self._socket, self._peers, self._record_bytes = socket, peers, record_bytes
        self._prefix = int(np.frombuffer(encode(Header(kind))[0], np.uint64)[0])
        calls = [ctypes.cast(getattr(_LIBRARY, name), ctypes.c_void_p).value for name in CALLS]
        self._calls = np.array(calls, np.int64)
        self._memory = np.zeros((3, _MESSAGE_BYTES // 8), np.int64)
        self._frames = self._memory.ctypes.data + _MESSAGE_BYTES * np.arange(3)
        for frame in self._frames.tolist():
            _LIBRARY.zmq_msg_init(frame)
        self._told = np.zeros(3, np.int64)

    def receive_records(self, block: Array, first: int, room: int, most: int) -> Received:
        """Append the records of plain messages to a block until there is none, or another message.

        Parameters
        ----------
        block
            uint8: the records' memory.
        first, room
            Record at which to begin, and how many there is room for.
        most
            Messages to take.
        """
        peers, told = self._peers, self._told
        receive_records(
            self._calls, self._socket.address, self._frames, peers.names, peers.sizes,
            peers.expected, self._prefix, block, self._record_bytes, first, room, MAX_EVENTS,
            most, told,
        )  # fmt: skip
        return Received(int(told[MESSAGES]), int(told[EVENTS]), bool(told[HELD]))

    def next_other(self) -> Message:
        """Return the message that was not plain, after `take` has told of it.

        Raises
        ------
        ProtocolError
            If it breaks the protocol; it is consumed.
        """
        held = self._frames[: self._told[HELD]].tolist()
        peer, *frames = [
            ctypes.string_at(_LIBRARY.zmq_msg_data(f), _LIBRARY.zmq_msg_size(f)) for f in held
        ]
        return self._socket.receive_rest(peer, frames, more=bool(_LIBRARY.zmq_msg_more(held[-1])))

    def close(self) -> None:
        """Free what is held."""
        for frame in self._frames.tolist():
            _LIBRARY.zmq_msg_close(frame)
