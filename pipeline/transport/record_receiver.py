"""Receiving messages of packed records by a compiled loop, and its self-test.

`SLUICE_COMPILED_RECEIVE=0` in the environment turns the loop off. `Socket.receive` then does the
same more slowly, as it does where the self-test fails.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import uuid
from contextlib import closing
from typing import NamedTuple

import numpy as np

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.schema import Array

from .front_end_messages import EndOfRun, EventData
from .peer_table import PeerTable
from .protocol import ARG1_WORD, EVENTS_LENGTH_WORD, HEADER_BYTES, MAX_EVENTS, Header, Kind, encode
from .receive_loop import EVENTS, FUNCTIONS, HELD_FRAMES, MESSAGES, receive_records
from .socket import Message, Socket

_log = logging.getLogger("sluice.transport")

#: Environment variable that turns the compiled loop off if it is "0".
SWITCH = "SLUICE_COMPILED_RECEIVE"
#: Size of a `zmq_msg_t`, bytes.
_MESSAGE_BYTES = 64
#: pyzmq's extension module, which is linked with the libzmq that pyzmq uses.
_BINDING = "zmq.backend.cython._zmq"


class Received(NamedTuple):
    """Result of one call: plain messages, their events, and whether another message came next."""

    messages: int
    events: int
    another: bool


class RecordReceiver:
    """Receives messages from a ROUTER, those of packed records by the compiled loop.

    Parameters
    ----------
    socket
        The ROUTER.
    kind
        Kind of the messages that hold records.
    record_bytes
        Size of a record, bytes.
    peers
        Peers whose messages the loop accepts.
    """

    def __init__(self, socket: Socket, kind: int, record_bytes: int, peers: PeerTable) -> None:
        self._socket, self._peers, self._record_bytes = socket, peers, record_bytes
        self._prefix = int(np.frombuffer(encode(Header(kind))[0], np.uint64)[0])
        self._layout = np.array([HEADER_BYTES, ARG1_WORD, EVENTS_LENGTH_WORD], np.int64)
        library = self._library = _load_library()
        calls = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS]
        self._calls = np.array(calls, np.int64)
        self._memory = np.zeros((3, _MESSAGE_BYTES // 8), np.int64)
        self._frames = self._memory.ctypes.data + _MESSAGE_BYTES * np.arange(3)
        for frame in self._frames.tolist():
            library.zmq_msg_init(frame)
        self._out = np.zeros(3, np.int64)

    def receive_records(
        self, block: Array, first: int, free_records: int, max_messages: int
    ) -> Received:
        """Append the records of plain messages to a block, until there is none or another message.

        Parameters
        ----------
        block
            uint8: memory of the records.
        first
            Record of the block at which to begin.
        free_records
            Records for which there is space from `first` on.
        max_messages
            Largest number of messages to receive.
        """
        peers, out = self._peers, self._out
        receive_records(
            self._calls, self._socket.address, self._frames, peers.names, peers.sizes,
            peers.expected, self._prefix, self._layout, block, self._record_bytes, first,
            free_records, MAX_EVENTS, max_messages, out,
        )  # fmt: skip
        return Received(int(out[MESSAGES]), int(out[EVENTS]), bool(out[HELD_FRAMES]))

    def next_other(self) -> Message:
        """Return the message that was not plain, if `receive_records` returned `another`.

        Raises
        ------
        ProtocolError
            If it breaks the protocol; it is consumed.
        """
        library = self._library
        held = self._frames[: self._out[HELD_FRAMES]].tolist()
        peer, *frames = [
            ctypes.string_at(library.zmq_msg_data(f), library.zmq_msg_size(f)) for f in held
        ]
        return self._socket.receive_rest(peer, frames, more=bool(library.zmq_msg_more(held[-1])))

    def close(self) -> None:
        """Free the frames that are held."""
        for frame in self._frames.tolist():
            self._library.zmq_msg_close(frame)


def open_record_receiver(
    socket: Socket, kind: int, record_bytes: int, peers: PeerTable
) -> RecordReceiver | None:
    """Return a `RecordReceiver`, or None if `Socket.receive` must be used instead.

    None if the environment turns the compiled loop off, or if its self-test fails, which is run
    once in a process and reported once.
    """
    if os.environ.get(SWITCH) == "0" or not _passes_self_test():
        return None
    return RecordReceiver(socket, kind, record_bytes, peers)


@functools.cache
def _passes_self_test() -> bool:
    try:
        check_compiled_loop()
    except Exception as error:  # after any error `Socket.receive` is used instead
        _log.warning(
            "compiled receive loop: self-test failed, messages are received one by one: %s", error
        )
        return False
    return True


def check_compiled_loop() -> None:
    """Compare what the compiled loop receives with what was sent.

    Raises
    ------
    ProtocolError
        If something else was received.
    """
    endpoint, record_bytes = f"inproc://sluice-self-test-{uuid.uuid4()}", 3
    peers = PeerTable(2)
    row = peers.add(b"peer", 7)
    block = np.zeros(4 * record_bytes, np.uint8)
    last = EndOfRun(10, 5).to_header()
    with (
        closing(Socket(endpoint)) as router,
        closing(Socket(endpoint, "peer")) as peer,
        closing(RecordReceiver(router, Kind.RAW, record_bytes, peers)) as receiver,
    ):
        peer.send(EventData(Kind.RAW, first_event=7, events=2).to_header(), b"abcdef")
        peer.send(EventData(Kind.RAW, first_event=9, events=1).to_header(), b"ghi")
        peer.send(last, b"end")
        received = receiver.receive_records(block, 1, 3, 9)
        _expect(Received(2, 3, another=True), received)
        _expect(b"\0\0\0abcdefghi", block.tobytes())
        _expect(10, int(peers.expected[row]))
        name, header, payload = receiver.next_other()
        _expect((b"peer", last._replace(length=3)), (name, header))
        _expect([b"end"], [bytes(frame) for frame in payload])
        _expect(Received(0, 0, another=False), receiver.receive_records(block, 0, 4, 9))


def _expect(expected: object, got: object) -> None:
    if got != expected:
        raise ProtocolError(f"expected {expected}, got {got}")


@functools.cache
def _load_library() -> ctypes.CDLL:
    """Return the libzmq of pyzmq: a second one would have contexts of its own."""
    library = ctypes.CDLL(importlib.import_module(_BINDING).__file__)
    for name, result in (
        ("zmq_msg_init", ctypes.c_int), ("zmq_msg_close", ctypes.c_int),
        ("zmq_msg_more", ctypes.c_int), ("zmq_msg_size", ctypes.c_size_t),
        ("zmq_msg_data", ctypes.c_void_p),
    ):  # fmt: skip
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.c_void_p,), result
    return library
