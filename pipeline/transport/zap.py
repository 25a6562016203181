"""What sockets need: CURVE authentication (ZAP), threads, and reasons for failed connections."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.log import limiter

from .curve_keys import KeyPair, ServerAuth

_LOG = logging.getLogger("sluice.transport")
_REJECTED = "connection-rejected"
_REJECTIONS = "{count:,} connections rejected, the latest from {address}: {reason}"
#: Endpoint to which ZeroMQ sends ZAP requests; RFC 27 prescribes it.
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
#: Largest number of requests, and of events of each monitor, handled in one call: a peer that
#: connects again and again must not keep the process from its messages.
_MAX_PER_CALL = 64
HANDSHAKE_FAILED: int = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

RawSocket = zmq.Socket[bytes]


class ZapAuthenticator:
    """Answers ZAP requests for all protected sockets of this process (ZeroMQ RFC 27).

    ZeroMQ sends a request when a peer connects. `Poller.poll` and `Socket.poll` answer it, so that
    no thread is needed; a protected socket accepts no connection while neither runs.

    Attributes
    ----------
    generation
        Increased whenever `sockets` changes.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._thread = 0
        self._sockets: list[RawSocket] = []
        self._allowed: dict[bytes, frozenset[str]] = {}
        self._monitors: dict[RawSocket, RawSocket] = {}
        self._refused: dict[RawSocket, int] = {}

    @property
    def sockets(self) -> list[RawSocket]:
        """Sockets of requests to poll; empty except in the thread that called `protect` first."""
        return self._sockets if self._thread == threading.get_ident() else []

    def protect(self, socket: RawSocket, auth: ServerAuth) -> None:
        """Accept only connections to `socket` that have an allowed key."""
        domain = f"{id(socket)}".encode()
        if not self._sockets:
            self._thread = threading.get_ident()
            zap: RawSocket = socket.context.socket(zmq.ROUTER)
            zap.linger = 0
            zap.bind(_ZAP_ENDPOINT)
            self._sockets.append(zap)
        set_keys(socket, auth.keys)
        socket.curve_server = True
        socket.zap_domain = domain
        # Without this ZeroMQ would accept every connection while no socket receives its requests.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        monitor = socket.get_monitor_socket(HANDSHAKE_FAILED)
        self._sockets.append(monitor)
        self._monitors[socket] = monitor
        self._refused[socket] = 0
        self._allowed[domain] = auth.allowed
        self.generation += 1

    def unprotect(self, socket: RawSocket) -> None:
        """Remove a socket that is about to be closed; other sockets are ignored."""
        monitor = self._monitors.pop(socket, None)
        if monitor is None:
            return
        self._sockets.remove(monitor)
        close_monitor(socket, monitor)
        del self._allowed[f"{id(socket)}".encode()], self._refused[socket]
        if not self._monitors:
            self.clear()
        self.generation += 1

    def clear(self) -> None:
        """Close the sockets of this authenticator and forget the protected ones."""
        if self._sockets:
            self._sockets[0].unbind(_ZAP_ENDPOINT)  # closing alone frees the address only later
        for socket in self._sockets:
            socket.close()
        self._sockets.clear()
        self._monitors.clear()
        self._allowed.clear()
        self._refused.clear()
        self.generation += 1

    def answer_requests(self) -> None:
        """Answer the requests that have arrived, and count refused connections."""
        zap = self._sockets[0]
        for _ in range(_MAX_PER_CALL):
            try:
                frames = zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            zap.send_multipart(self._answer(frames), zmq.NOBLOCK)
        for socket, monitor in self._monitors.items():
            for _ in range(_MAX_PER_CALL):
                if not monitor.poll(0):
                    break
                event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))["event"]
                self._refused[socket] += 1
                if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:  # that was logged with its address
                    why = "no key was shown, or the handshake broke off"
                    limiter.warn(_LOG, _REJECTED, _REJECTIONS, address="a peer", reason=why)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to [peer, '', version, id, domain, address, name, mechanism, key]."""
        peer, empty, version, number, domain, address, _, mechanism, *keys = frames
        complete = mechanism == b"CURVE" and len(keys) == 1 and len(keys[0]) == 32
        key = z85.encode(keys[0]).decode() if complete else ""
        if key and key in self._allowed.get(domain, ()):
            return [peer, empty, version, number, b"200", b"OK", key.encode(), b""]
        where = address.decode(errors="backslashreplace")
        limiter.warn(_LOG, _REJECTED, _REJECTIONS, address=where, reason="its key is not allowed")
        return [peer, empty, version, number, b"400", b"key not allowed", b"", b""]

    def refused(self, socket: RawSocket) -> int:
        """Return how many connections of a protected socket were dropped without an allowed key."""
        return self._refused.get(socket, 0)


#: One for the process, because ZeroMQ has one endpoint for requests.
authenticator = ZapAuthenticator()


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """Why a connection failed.

    Attributes
    ----------
    why
        Reason, as the end of a sentence that begins with the endpoint.
    hint
        Advice for the user.
    final
        Whether another attempt will fail as well.
    """

    why: str
    hint: str
    final: bool


def connect_failure(event: int, value: int, keyed: bool) -> ConnectFailure:
    """Return the reason for a failed connection.

    Parameters
    ----------
    event, value
        Event of the socket's monitor, with its value.
    keyed
        Whether our socket has keys.
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        hint = "its `security.allow` must name our public key file"
        return ConnectFailure("the server refuses our key", hint, final=True)
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH and keyed:
        return ConnectFailure(
            "the server is plain and we have keys", "leave out the keys", final=True
        )
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        hint = "`sluice keygen NAME` makes a pair; docs/howto/secure-a-run.md says how to use it"
        return ConnectFailure("the server requires keys and we have none", hint, final=True)
    if keyed:
        hint = "does the public key belong to the server that listens there?"
        return ConnectFailure(
            "the server closed the connection during the CURVE handshake", hint, final=False
        )
    return ConnectFailure(
        "the program that listens there does not use ZeroMQ", "is the port right?", final=False
    )


def set_keys(socket: RawSocket, keys: KeyPair) -> None:
    """Set a socket's own pair of keys."""
    socket.curve_publickey = keys.public.encode()
    socket.curve_secretkey = keys.secret.encode()


def close_monitor(socket: RawSocket, monitor: RawSocket | None) -> None:
    """Close the monitor of a socket, if it has one."""
    if monitor is not None:
        socket.disable_monitor()
        monitor.close()


def require_threads(number: int) -> None:
    """Start some threads that end at once.

    Raises
    ------
    RunError
        If a thread cannot be started; the hint names the limit.
    """
    go_on, started = threading.Event(), []
    try:
        for _ in range(number):
            thread = threading.Thread(target=go_on.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise RunError.of(error) from error
    finally:
        go_on.set()
        for thread in started:
            thread.join()
