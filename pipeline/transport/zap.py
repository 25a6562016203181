"""Who may come in: CURVE with an allow-list, and what a refused peer is told."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import zmq
from zmq.utils import z85

from .curve_keys import KeyPair, ServerAuth

#: Where ZeroMQ asks, by its specification.
_QUESTIONS = "inproc://zeromq.zap.01"
#: Who may come in is asked at most this often before messages are served again.
_QUESTIONS_A_POLL = 64
HANDSHAKE_FAILED: int = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

RawSocket = zmq.Socket[bytes]


class ZapAuthenticator:
    """Who may come in, for all guarded sockets of this process (ZAP, ZeroMQ RFC 27).

    ZeroMQ asks on a socket; whoever polls any socket of this process answers, so that no thread
    is needed. A guarded socket lets nobody in while nobody answers.
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
        """What is to be polled for it; nothing in other threads than that of the first guard."""
        return self._sockets if self._thread == threading.get_ident() else []

    def guard(self, socket: RawSocket, guard: ServerAuth) -> None:
        """Let only those in who show an allowed key."""
        domain = f"{id(socket)}".encode()
        if not self._sockets:
            self._thread = threading.get_ident()
            zap: RawSocket = zmq.Context.instance().socket(zmq.ROUTER)
            zap.linger = 0
            zap.bind(_QUESTIONS)
            self._sockets.append(zap)
        show(socket, guard.keys)
        socket.curve_server = True
        socket.zap_domain = domain
        # Without this ZeroMQ would let everybody in while nobody listens to its questions.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        monitor = socket.get_monitor_socket(HANDSHAKE_FAILED)
        self._sockets.append(monitor)
        self._monitors[socket] = monitor
        self._refused[socket] = 0
        self._allowed[domain] = guard.allowed
        self.generation += 1

    def dismiss(self, socket: RawSocket) -> None:
        """Forget a socket that is being closed."""
        monitor = self._monitors.pop(socket, None)
        if monitor is None:
            return
        self._sockets.remove(monitor)
        end_monitor(socket, monitor)
        del self._allowed[f"{id(socket)}".encode()], self._refused[socket]
        if not self._monitors:
            self.clear()
        self.generation += 1

    def clear(self) -> None:
        """Close what is left."""
        if self._sockets:
            self._sockets[0].unbind(_QUESTIONS)  # closing alone frees the address only later
        for socket in self._sockets:
            socket.close()
        self._sockets.clear()
        self._monitors.clear()
        self._allowed.clear()
        self._refused.clear()
        self.generation += 1

    def serve(self) -> None:
        """Answer ZeroMQ's questions that are there, and count who was refused."""
        zap = self._sockets[0]
        for _ in range(_QUESTIONS_A_POLL):
            try:
                frames = zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            zap.send_multipart(self._answer(frames), zmq.NOBLOCK)
        for socket, monitor in self._monitors.items():
            for _ in range(_QUESTIONS_A_POLL):
                if not monitor.poll(0):
                    break
                monitor.recv_multipart(zmq.NOBLOCK)
                self._refused[socket] += 1

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Return the reply to [peer, '', version, id, domain, address, name, mechanism, key]."""
        peer, empty, version, number, domain, _, _, mechanism, *shown = frames
        known = mechanism == b"CURVE" and len(shown) == 1 and len(shown[0]) == 32
        key = z85.encode(shown[0]).decode() if known else ""
        if key and key in self._allowed.get(domain, ()):
            return [peer, empty, version, number, b"200", b"OK", key.encode(), b""]
        return [peer, empty, version, number, b"400", b"key not allowed", b"", b""]

    def refused(self, socket: RawSocket) -> int:
        """Return how many connections of a guarded socket were dropped for want of a right key."""
        return self._refused.get(socket, 0)


#: One a process, as ZeroMQ has it.
authenticator = ZapAuthenticator()


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """Why a connection failed; `final` if trying again cannot help."""

    why: str
    hint: str
    final: bool


def connect_failure(event: int, value: int, keyed: bool) -> ConnectFailure:
    """Return what an event of a socket's monitor means; `keyed` if we showed a key."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        hint = "its owner must put our public key file where `security.allow` names it"
        return ConnectFailure("it refuses our key", hint, final=True)
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH and keyed:
        return ConnectFailure("it is plain and we show a key", "leave out the keys", final=True)
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        hint = "`sluice keygen NAME` makes a pair; docs/howto/secure-a-run.md tells how to use it"
        return ConnectFailure("it asks for a key and we showed none", hint, final=True)
    if keyed:
        hint = "is the server's public key really that of who listens there?"
        return ConnectFailure("it hung up on us during the exchange of keys", hint, final=False)
    return ConnectFailure(
        "what listens there does not speak ZeroMQ", "is the port right?", final=False
    )


def show(socket: RawSocket, keys: KeyPair) -> None:
    """Give a socket its own pair of keys."""
    socket.curve_publickey = keys.public.encode()
    socket.curve_secretkey = keys.secret.encode()


def end_monitor(socket: RawSocket, monitor: RawSocket | None) -> None:
    """Stop watching a socket."""
    if monitor is not None:
        socket.disable_monitor()
        monitor.close()
