"""ZeroMQ sockets; the only file that imports zmq.

Between workers ROUTER and DEALER, never PUSH and PULL: nothing is handed to who did not ask for
it. Sends never block: a full or vanished peer is an answer, not a wait.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterable
from typing import Any

import zmq

from .errors import ConfigError
from .wire import Frames, Header, ProtocolError, decode, encode

#: Messages that a socket may queue for one peer; credit and windows keep far below it.
_HIGH_WATER_MARK = 10_000
#: A greater copy is avoided by handing the buffer itself to ZeroMQ.
_COPY_BYTES = 1 << 20
_LINGER_MS = 2_000
#: Plain integers: the flags' own class takes a microsecond a call.
_READABLE = int(zmq.POLLIN)
_NOW, _NOW_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)

Message = tuple[bytes, Header, list[memoryview]]


class Socket:
    """A ROUTER that binds, or a DEALER that connects.

    Parameters
    ----------
    endpoint
        ``ipc://…`` or ``tcp://…``; with port 0 the system picks one, see `endpoint`.
    identity
        For a DEALER: the name by which the ROUTER knows it. None makes a ROUTER.
    """

    def __init__(self, endpoint: str, identity: str | None = None) -> None:
        kind = zmq.ROUTER if identity is None else zmq.DEALER
        self._routes = identity is None
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        if identity is None:
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._bind(endpoint)
        else:
            self._socket.setsockopt(zmq.IDENTITY, identity.encode())
            self._reach(endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, header: Header, *payload: Any, to: bytes | None = None) -> bool:
        """Send a message, for a ROUTER to a peer; False if that is gone or its queue is full."""
        frames: Frames = encode(header, *payload)
        if to is not None:
            frames.insert(0, to)
        last = frames.pop()
        send = self._socket.send
        try:
            for frame in frames:
                send(frame, _NOW_MORE)
            send(last, _NOW, copy=memoryview(last).nbytes < _COPY_BYTES)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def receive(self) -> Message | None:
        """Return the next message as (peer, header, payload), or None if there is none.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        receive = self._socket.recv
        try:
            peer = receive(_NOW) if self._routes else b""
            frame = receive(_NOW, copy=False)
        except zmq.Again:
            return None
        frames = [frame.buffer]
        while frame.more:
            frame = receive(_NOW, copy=False)
            frames.append(frame.buffer)
        try:
            header, payload = decode(frames)
        except ProtocolError as error:
            error.peer = peer
            raise
        return peer, header, payload

    @property
    def readable(self) -> bool:
        """Whether there is a message."""
        return bool(int(self._socket.get(zmq.EVENTS)) & _READABLE)

    def poll(self, timeout_s: float) -> bool:
        """Wait for a message, at most `timeout_s` seconds; whether there is one."""
        return bool(self._socket.poll(math.ceil(timeout_s * 1e3)))

    def close(self) -> None:
        """Close; messages already sent are still delivered for two seconds."""
        self._socket.close()

    def _bind(self, endpoint: str) -> None:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            raise ConfigError(
                f"cannot listen on {endpoint}: {error.strerror}",
                hint="another process has it? choose another port, or 0 for any free one",
            ) from error

    def _reach(self, endpoint: str) -> None:
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close(linger=0)
            raise ConfigError(
                f"cannot connect to {endpoint!r}: {error.strerror}",
                hint="expected an endpoint such as tcp://127.0.0.1:5560",
            ) from error


class Poller:
    """Waits for several sockets at once, to the microsecond; ZeroMQ's own poll counts in ms."""

    def __init__(self, sockets: Iterable[Socket]) -> None:
        self._sockets = list(sockets)
        self._files = [socket._socket.fileno() for socket in self._sockets]

    def poll(self, timeout_s: float) -> list[Socket]:
        """Return the sockets that have a message, after at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        # The file of a socket tells of changes only, therefore look at the sockets first.
        while not (ready := [socket for socket in self._sockets if socket.readable]):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            select.select(self._files, (), (), left)
        return ready


def terminate() -> None:
    """End the process's ZeroMQ context, and any socket that was left open."""
    zmq.Context.instance().destroy(linger=_LINGER_MS)
