"""ZeroMQ sockets; only this package imports zmq.

Between workers ROUTER and DEALER, never PUSH and PULL: nothing is handed to who did not ask for
it. Sends never block: a full or vanished peer is an answer, not a wait. Sockets that listen beyond
this host have a guard: CURVE, with an allow-list that whoever polls in this process consults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from sluice.pipeline.core.errors import ConfigError, ProtocolError

from .curve_keys import ClientAuth, KeyPair, ServerAuth
from .descriptor_poll import DescriptorPoll
from .protocol import MAX_BYTES, Frames, Header, decode, encode
from .zap import (
    HANDSHAKE_FAILED,
    ConnectFailure,
    RawSocket,
    authenticator,
    connect_failure,
    end_monitor,
    show,
)

#: A greater copy is avoided by handing the buffer itself to ZeroMQ.
_COPY_BYTES = 1 << 20
_LINGER_MS = 2_000
#: Plain integers: the flags' own class takes a microsecond a call.
_READABLE = int(zmq.POLLIN)
_NOW, _NOW_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
#: Longest pause between two attempts to connect again; they begin at 100 ms.
_RECONNECT_MS = 2_000
#: A peer that has not shown its key by then is dropped.
_HANDSHAKE_MS = 10_000
#: The kernel probes silent TCP peers this often, and drops them after three probes without answer.
#: ZeroMQ's own heartbeats would drop a peer whose messages wait to be read, and may abort the
#: process (libzmq 4.3.5, issues 3937 and 4364).
_PROBE_S = 5
_PROBES = 3

Message = tuple[bytes, Header, list[memoryview]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may make a socket hold: `queue` messages, each frame at most `frame_bytes`.

    Credit and windows keep far below the queue.
    """

    frame_bytes: int = MAX_BYTES
    queue: int = 10_000


class Socket:
    """A ROUTER that binds, or a DEALER that connects.

    Parameters
    ----------
    endpoint
        ``ipc://…`` or ``tcp://…``; with port 0 the system picks one, see `endpoint`.
    identity
        For a DEALER: the name by which the ROUTER knows it. None makes a ROUTER.
    security
        For a ROUTER: whom it lets in. For a DEALER: what it shows. None is plain.
    limits
        Of what a peer may make it hold.
    queue_while_disconnected
        Whether a DEALER keeps messages while there is no connection, or `send` says so.
    """

    def __init__(
        self,
        endpoint: str,
        identity: str | None = None,
        *,
        security: ServerAuth | ClientAuth | None = None,
        limits: Limits = Limits(),
        queue_while_disconnected: bool = True,
    ) -> None:
        self._routes = identity is None
        self._keyed = security is not None
        self._trouble: ConnectFailure | None = None
        self._monitor: RawSocket | None = None
        self._closed = False
        kind = zmq.ROUTER if identity is None else zmq.DEALER
        self._socket: RawSocket = zmq.Context.instance().socket(kind)
        self._set_limits(limits)
        if endpoint.startswith("tcp://"):
            self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _PROBE_S)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _PROBE_S)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _PROBES)
        if isinstance(security, ServerAuth):
            authenticator.guard(self._socket, security)
        elif security is not None:
            show(self._socket, security.keys)
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, security.server.encode())
        if identity is None:
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._bind(endpoint)
        else:
            self._socket.setsockopt(zmq.IMMEDIATE, int(not queue_while_disconnected))
            self._socket.setsockopt(zmq.IDENTITY, identity.encode())
            if endpoint.startswith("tcp://"):
                self._monitor = self._socket.get_monitor_socket(HANDSHAKE_FAILED)
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
        return self.receive_rest(peer, [frame.buffer], more=frame.more)

    def receive_rest(self, peer: bytes, frames: Frames, *, more: bool) -> Message:
        """Return the message that begins with these frames; `more` are in the socket.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        receive = self._socket.recv
        while more:
            frame = receive(_NOW, copy=False)
            frames.append(frame.buffer)
            more = frame.more
        try:
            header, payload = decode(frames)
        except ProtocolError as error:
            error.peer = peer
            raise
        return peer, header, payload

    @property
    def address(self) -> int:
        """Of libzmq's own socket, for what calls that without Python; see `RecordReceiver`."""
        return int(self._socket.underlying)

    def poll(self, timeout_s: float) -> bool:
        """Wait for a message, at most `timeout_s` seconds; whether there is one."""
        if not authenticator.sockets:
            return bool(self._socket.poll(math.ceil(timeout_s * 1e3)))
        return bool(Poller([self]).poll(timeout_s))

    @property
    def readable(self) -> bool:
        """Whether there is a message."""
        return bool(int(self._socket.get(zmq.EVENTS)) & _READABLE)

    @property
    def refused(self) -> int:
        """Connections of a guarded ROUTER that were dropped for want of the right key."""
        return authenticator.refused(self._socket)

    @property
    def last_failure(self) -> ConnectFailure | None:
        """Why a DEALER's latest attempt to connect failed, as far as ZeroMQ tells; see there."""
        while self._monitor is not None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            self._trouble = connect_failure(int(event["event"]), int(event["value"]), self._keyed)
        return self._trouble

    def close(self) -> None:
        """Close; messages already sent are still delivered for two seconds."""
        if not self._closed:
            self._closed = True
            authenticator.dismiss(self._socket)
            end_monitor(self._socket, self._monitor)
            self._socket.close()

    def _set_limits(self, limits: Limits) -> None:
        set_option = self._socket.setsockopt
        set_option(zmq.LINGER, _LINGER_MS)
        set_option(zmq.SNDHWM, limits.queue)
        set_option(zmq.RCVHWM, limits.queue)
        set_option(zmq.MAXMSGSIZE, limits.frame_bytes)
        set_option(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS)
        set_option(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)

    def _bind(self, endpoint: str) -> None:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.linger = 0
            self.close()
            raise ConfigError(
                f"cannot listen on {endpoint}: {error.strerror}",
                hint="another process has it? choose another port, or 0 for any free one",
            ) from error

    def _reach(self, endpoint: str) -> None:
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.linger = 0
            self.close()
            raise ConfigError(
                f"cannot connect to {endpoint!r}: {error.strerror}",
                hint="expected an endpoint such as tcp://127.0.0.1:5560",
            ) from error


class Poller:
    """Waits for several sockets at once, to the microsecond; ZeroMQ's own poll counts in ms.

    Meanwhile it answers who may come in at the guarded sockets of this process.
    """

    def __init__(self, sockets: Iterable[Socket]) -> None:
        self._sockets = list(sockets)
        self._generation = -1
        self._descriptors = DescriptorPoll(())

    def poll(self, timeout_s: float) -> list[Socket]:
        """Return the sockets that have a message, after at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        # The file of a socket tells of changes only, therefore look at the sockets first.
        while True:
            if authenticator.sockets:
                authenticator.serve()
            ready = [socket for socket in self._sockets if socket.readable]
            left = deadline - time.monotonic()
            if ready or left <= 0:
                return ready
            if self._generation != authenticator.generation:
                self._generation = authenticator.generation
                watched = (*(socket._socket for socket in self._sockets), *authenticator.sockets)
                self._descriptors = DescriptorPoll(int(socket.fileno()) for socket in watched)
            self._descriptors.wait(left)


def new_keys() -> KeyPair:
    """Return a fresh pair of CURVE keys."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def terminate() -> None:
    """End the process's ZeroMQ context, and any socket that was left open."""
    authenticator.clear()
    zmq.Context.instance().destroy(linger=_LINGER_MS)
