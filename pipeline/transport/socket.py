"""ZeroMQ sockets; only this package imports zmq.

Processes use ROUTER and DEALER, never PUSH and PULL: a batch goes to a worker that asked for it.
Sends never block: `Socket.send` returns False if the queue is full or the peer is disconnected.
Sockets that other hosts can reach are protected by CURVE with a list of allowed keys.
"""

from __future__ import annotations

import atexit
import math
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from sluice.pipeline.core.errors import ConfigError, ProtocolError, RunError, limit_hint

from .curve_keys import ClientAuth, ServerAuth
from .poller import Poller
from .protocol import Frames, Header, Limits, decode, encode
from .zap import (
    HANDSHAKE_FAILED,
    ConnectFailure,
    RawSocket,
    authenticator,
    close_monitor,
    connect_failure,
    require_threads,
    set_keys,
)

#: From this size on, bytes, ZeroMQ gets the buffer itself instead of a copy.
_COPY_BYTES = 1 << 20
#: Time for which a closed socket still sends its messages, ms.
_LINGER_MS = 2_000
#: Flags as plain integers: zmq's own enumeration takes a microsecond for each call.
_READABLE = int(zmq.POLLIN)
_NOW, _NOW_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
#: Longest pause between two attempts to connect, ms; the first pause is 100 ms.
_RECONNECT_MS = 2_000
#: Events of a socket's monitor that are read in one call, at most.
_MAX_MONITOR_EVENTS = 64
#: A peer whose handshake takes longer is dropped, ms.
_HANDSHAKE_MS = 10_000
#: Interval, s, at which the kernel probes TCP peers that send nothing, and number of probes without
#: answer after which it drops them. ZeroMQ's own heartbeats would drop a peer whose messages wait
#: to be read, and may abort the process (libzmq 4.3.5, issues 3937 and 4364).
_KEEPALIVE_S = 5
_KEEPALIVE_PROBES = 3

_LIMITS = Limits()

Message = tuple[bytes, Header, list[memoryview]]


class _Context(zmq.Context[RawSocket]):
    """The ZeroMQ context of this process's sockets; a program that embeds us has its own."""

    _instance = None  # else `instance` would return the program's

    @classmethod
    def instance(cls, io_threads: int = 1) -> _Context:
        """Return the context; RunError if its threads cannot start, for which libzmq aborts."""
        if cls._instance is None:
            require_threads(1 + io_threads)
        return super().instance(io_threads)


class Socket:
    """A ROUTER that binds, or a DEALER that connects.

    Parameters
    ----------
    endpoint
        ``ipc://…`` or ``tcp://…``; with port 0 the system chooses one, which `endpoint` has.
    identity
        Name of a DEALER, by which the ROUTER addresses it; None for a ROUTER.
    security
        Keys of a ROUTER (`ServerAuth`) or of a DEALER (`ClientAuth`); None for a plain socket.
    limits
        Limits of what it holds for one peer.
    queue_while_disconnected
        Whether a DEALER keeps messages while it has no connection; otherwise `send` returns False.

    Attributes
    ----------
    endpoint
        Endpoint with the port that was chosen.
    """

    def __init__(
        self,
        endpoint: str,
        identity: str | None = None,
        *,
        security: ServerAuth | ClientAuth | None = None,
        limits: Limits = _LIMITS,
        queue_while_disconnected: bool = True,
    ) -> None:
        self._is_router = identity is None
        self._keyed = security is not None
        self._last_failure: ConnectFailure | None = None
        self._monitor: RawSocket | None = None
        self._closed = False
        kind = zmq.ROUTER if identity is None else zmq.DEALER
        self._socket: RawSocket = _Context.instance().socket(kind)
        self._set_limits(limits)
        if endpoint.startswith("tcp://"):
            if ":" in endpoint.removeprefix("tcp://").rpartition(":")[0]:  # as in [::1]
                self._socket.setsockopt(zmq.IPV6, 1)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_S)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_S)
            self._socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _KEEPALIVE_PROBES)
        if isinstance(security, ServerAuth):
            authenticator.protect(self._socket, security)
        elif security is not None:
            set_keys(self._socket, security.keys)
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
            self._connect(endpoint)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, header: Header, *payload: Any, to: bytes | None = None) -> bool:
        """Send a message; return False if the peer is disconnected or its queue is full.

        Parameters
        ----------
        header
            Header of the message; `encode` computes its length.
        *payload
            Buffers, one a frame.
        to
            Identity of the peer, for a ROUTER.
        """
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
        """Return the next message as (peer, header, payload frames), or None if there is none.

        Raises
        ------
        ProtocolError
            If the message breaks the protocol; it is consumed.
        """
        receive = self._socket.recv
        try:
            peer = receive(_NOW) if self._is_router else b""
            frame = receive(_NOW, copy=False)
        except zmq.Again:
            return None
        return self.receive_rest(peer, [frame.buffer], more=frame.more)

    def receive_rest(self, peer: bytes, frames: Frames, *, more: bool) -> Message:
        """Return the message whose first frames were received already.

        Parameters
        ----------
        peer
            Identity of the sender.
        frames
            Frames received so far: the header, and maybe the payload.
        more
            Whether the rest of the message is still in the socket.

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
        """Address of libzmq's socket, with which `RecordReceiver` calls libzmq without Python."""
        return int(self._socket.underlying)

    def poll(self, timeout_s: float) -> bool:
        """Return whether there is a message, after at most `timeout_s` seconds."""
        if not authenticator.sockets:
            return bool(self._socket.poll(math.ceil(timeout_s * 1e3)))
        return bool(Poller([self]).poll(timeout_s))

    @property
    def descriptor(self) -> int:
        """File descriptor that becomes readable when the state of the socket changes."""
        return int(self._socket.fileno())

    @property
    def readable(self) -> bool:
        """Whether there is a message."""
        return bool(int(self._socket.get(zmq.EVENTS)) & _READABLE)

    @property
    def refused(self) -> int:
        """Number of connections to a protected ROUTER that were dropped without an allowed key."""
        return authenticator.refused(self._socket)

    @property
    def last_failure(self) -> ConnectFailure | None:
        """Reason why a DEALER's latest attempt to connect failed; None if ZeroMQ reported none."""
        for _ in range(_MAX_MONITOR_EVENTS):
            if self._monitor is None or not self._monitor.poll(0):
                break
            event = recv_monitor_message(self._monitor)
            self._last_failure = connect_failure(
                int(event["event"]), int(event["value"]), self._keyed
            )
        return self._last_failure

    def close(self) -> None:
        """Close the socket; ZeroMQ delivers queued messages for up to two seconds more."""
        if not self._closed:
            self._closed = True
            authenticator.unprotect(self._socket)
            close_monitor(self._socket, self._monitor)
            self._socket.close()

    def _set_limits(self, limits: Limits) -> None:
        set_option = self._socket.setsockopt
        set_option(zmq.LINGER, _LINGER_MS)
        set_option(zmq.SNDHWM, limits.queue)
        set_option(zmq.RCVHWM, limits.receive_queue or limits.queue)
        set_option(zmq.MAXMSGSIZE, limits.frame_bytes)
        set_option(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS)
        set_option(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)

    def _bind(self, endpoint: str) -> None:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.linger = 0
            self.close()
            if limit_hint(error) is not None:
                raise RunError.of(error) from error
            raise ConfigError(
                f"cannot listen on {endpoint}: {error.strerror}",
                hint="another process may listen there: choose another port, or 0 for a free one",
            ) from error

    def _connect(self, endpoint: str) -> None:
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.linger = 0
            self.close()
            raise ConfigError(
                f"cannot connect to {endpoint!r}: {error.strerror}",
                hint="expected an endpoint such as tcp://127.0.0.1:5560",
            ) from error


def terminate() -> None:
    """End the context and all open sockets, with the process: other threads may be in a run."""
    authenticator.clear()
    _Context.instance().destroy(linger=_LINGER_MS)


atexit.register(terminate)
