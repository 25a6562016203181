"""A model of ZeroMQ's ROUTER and DEALER sockets over a network that delays, drops and repeats.

On one host messages between two sockets arrive in order and only the death of a process loses any.
Between hosts the network may also repeat and reorder messages, and lose all that are under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.transport.protocol import Header, decode, encode
from sluice.pipeline.transport.socket import Message

from .virtual_time import VirtualTime

#: Delays of a message on one host, and between hosts, s.
_NEAR_S, _FAR_S = (0.000_02, 0.002), (0.000_2, 0.02)
#: Longest delay of a message that is repeated, or overtaken by others, s.
_LATE_S = 3.0
#: Time for which a connection stays broken, s.
_BROKEN_S = 0.5

Frames = tuple[bytes, ...]


class Disorder(NamedTuple):
    """Probabilities that a message between hosts is repeated, and that others overtake it."""

    repeat: float = 0.0
    reorder: float = 0.0


class Wire(NamedTuple):
    """A message that was sent between hosts: to a router's endpoint, or to the peer of one."""

    endpoint: str
    identity: bytes
    to_router: bool
    frames: Frames


class Network:
    """All sockets of one simulated run.

    Attributes
    ----------
    disorder
        What happens to messages between hosts, beside delays.
    sent
        Messages between hosts so far, if `records` is true.
    """

    def __init__(self, clock: VirtualTime, random: Random, *, records: bool = False) -> None:
        self.clock, self.random, self.records = clock, random, records
        self.disorder = Disorder()
        self.sent: list[Wire] = []
        self._routers: dict[str, SimulatedSocket] = {}
        self._dealers: dict[tuple[str, bytes], SimulatedSocket] = {}

    def bind(self, endpoint: str) -> SimulatedSocket:
        """Return a ROUTER; messages that wait for one at this endpoint come to it."""
        router = self._routers[endpoint] = SimulatedSocket(self, endpoint, None)
        for dealer in self._peers(endpoint):
            dealer.flush()
        return router

    def connect(self, endpoint: str, identity: str) -> SimulatedSocket:
        """Return a DEALER with an identity; an earlier one with the same loses its messages."""
        socket = SimulatedSocket(self, endpoint, identity.encode())
        self._dealers[endpoint, identity.encode()] = socket
        return socket

    def router(self, endpoint: str) -> SimulatedSocket | None:
        """Return the ROUTER at an endpoint; None if there is none now."""
        return self._routers.get(endpoint)

    def dealer(self, endpoint: str, identity: bytes) -> SimulatedSocket | None:
        """Return the DEALER with an identity; None if it is closed."""
        return self._dealers.get((endpoint, identity))

    def remove(self, socket: SimulatedSocket) -> None:
        """Forget a closed socket."""
        if socket.identity is not None:
            self._dealers.pop((socket.endpoint, socket.identity), None)
        elif self._routers.get(socket.endpoint) is socket:
            del self._routers[socket.endpoint]
            for dealer in self._peers(socket.endpoint):
                dealer.lose_some()

    def break_connections(self) -> None:
        """Break all connections between hosts for a while; what is under way is lost."""
        for (endpoint, _), dealer in list(self._dealers.items()):
            if is_far(endpoint):
                dealer.break_connection(self.random.uniform(0, _BROKEN_S))

    def inject(self, wire: Wire) -> None:
        """Deliver a message of an earlier run."""
        target = (
            self.router(wire.endpoint)
            if wire.to_router
            else self.dealer(wire.endpoint, wire.identity)
        )
        if target is not None:
            target.deliver(wire.identity, wire.frames)

    def far_identities(self) -> list[tuple[str, bytes]]:
        """Return endpoint and identity of the sockets of other hosts."""
        return [key for key in self._dealers if is_far(key[0])]

    def _peers(self, endpoint: str) -> Iterator[SimulatedSocket]:
        return iter([dealer for (at, _), dealer in self._dealers.items() if at == endpoint])


def is_far(endpoint: str) -> bool:
    """Whether an endpoint is for other hosts."""
    return endpoint.startswith("tcp://")


class SimulatedSocket:
    """A socket with the methods of `transport.socket.Socket`.

    Attributes
    ----------
    endpoint, identity
        Endpoint; identity of a DEALER, None for a ROUTER.
    """

    last_failure = None
    descriptor = -1
    refused = 0

    def __init__(self, network: Network, endpoint: str, identity: bytes | None) -> None:
        self.endpoint, self.identity = endpoint, identity
        self._network, self._clock, self._random = network, network.clock, network.random
        self._arrived: deque[tuple[bytes, Frames]] = deque()
        self._latest: tuple[bytes, Frames] = b"", ()
        #: Of a DEALER: messages on their way to and from the ROUTER, and those not sent yet.
        self._to_router: deque[Frames] = deque()
        self._from_router: deque[Frames] = deque()
        self._unsent: deque[Frames] = deque()
        self._last_s = {True: 0.0, False: 0.0}
        self._broken_until_s = 0.0
        self._generation = 0
        self._closed = False
        #: Called when a message has come.
        self.wake: Callable[[], None] = lambda: None
        #: Called with the header of each message that is sent.
        self.on_send: Callable[[Header], None] = lambda _: None

    def send(self, header: Header, *payload: Any, to: bytes | None = None) -> bool:
        """Send a message as the real socket does."""
        self.on_send(header)
        frames = tuple(bytes(frame) for frame in encode(header, *payload))
        if to is None:
            self._send_up(frames)
            return True
        dealer = self._network.dealer(self.endpoint, to)
        if dealer is None or dealer.broken:
            return False
        dealer._transmit(frames, up=False)
        return True

    def receive(self) -> Message | None:
        """Return the next message; None if there is none."""
        if not self._arrived:
            return None
        self._latest = peer, frames = self._arrived.popleft()
        try:
            header, payload = decode(frames)
        except ProtocolError as error:
            error.peer = peer
            raise
        return peer, header, payload

    def put_back(self) -> None:
        """Let the message that was received last be the next one again."""
        self._arrived.appendleft(self._latest)

    @property
    def has_messages(self) -> bool:
        """Whether there is a message, or one under way from the ROUTER."""
        return self.readable or bool(self._from_router)

    @property
    def readable(self) -> bool:
        """Whether there is a message."""
        return bool(self._arrived)

    @property
    def broken(self) -> bool:
        """Whether the connection is broken."""
        return self._clock.now_s < self._broken_until_s

    def poll(self, _: float) -> bool:
        """Whether there is a message; what waits for one is called when there is."""
        return self.readable

    def close(self) -> None:
        """Close the socket: what it has sent arrives."""
        self._closed = True
        self._network.remove(self)

    def kill(self) -> None:
        """Close the socket with its process: of what it has sent only the first may arrive."""
        kept = self._random.randint(0, len(self._to_router))
        while len(self._to_router) > kept:
            self._to_router.pop()
        self._unsent.clear()
        self.close()

    def lose_some(self) -> None:
        """Lose what the ROUTER had received from this DEALER, as it ended."""
        for _ in range(self._random.randint(0, len(self._to_router))):
            self._to_router.popleft()
        self._from_router.clear()
        self._unsent.extend(self._to_router)
        self._to_router.clear()

    def break_connection(self, seconds: float) -> None:
        """Lose what is under way, and connect again after some seconds."""
        self._to_router.clear()
        self._from_router.clear()
        self._broken_until_s = self._clock.now_s + seconds
        self._clock.after(seconds + 1e-6, self.flush)

    def flush(self) -> None:
        """Send what waits for a connection."""
        waiting, self._unsent = self._unsent, deque()
        for frames in waiting:
            self._send_up(frames)

    def deliver(self, peer: bytes, frames: Frames) -> None:
        """Receive a message."""
        if not self._closed:
            self._arrived.append((peer, frames))
            self.wake()

    def _send_up(self, frames: Frames) -> None:
        if self.broken or self._network.router(self.endpoint) is None:
            self._unsent.append(frames)
        else:
            self._transmit(frames, up=True)

    def _transmit(self, frames: Frames, *, up: bool) -> None:
        """Put a message on its way; in order, unless the network is far and out of order."""
        far = is_far(self.endpoint)
        delay_s = self._random.uniform(*(_FAR_S if far else _NEAR_S))
        at_s = max(self._clock.now_s + delay_s, self._last_s[up] + 1e-9)
        if far:
            identity = self.identity or b""
            if self._network.records:
                self._network.sent.append(Wire(self.endpoint, identity, up, frames))
            disorder = self._network.disorder
            if self._random.random() < disorder.repeat:
                self._later(frames, up=up)
            if self._random.random() < disorder.reorder:
                self._later(frames, up=up)
                return
        self._last_s[up] = at_s
        (self._to_router if up else self._from_router).append(frames)
        self._clock.at(at_s, lambda: self._arrive(frames, up=up))

    def _later(self, frames: Frames, *, up: bool) -> None:
        delay_s = self._random.uniform(0, _LATE_S)
        self._clock.after(delay_s, lambda: self._hand_over(frames, up=up))

    def _arrive(self, frames: Frames, *, up: bool) -> None:
        way = self._to_router if up else self._from_router
        if way and way[0] is frames:  # else it was lost
            way.popleft()
            self._hand_over(frames, up=up)

    def _hand_over(self, frames: Frames, *, up: bool) -> None:
        target = self._network.router(self.endpoint) if up else self
        if target is not None:
            target.deliver(self.identity or b"", frames)
