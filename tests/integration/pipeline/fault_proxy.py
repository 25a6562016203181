"""A proxy between ZeroMQ peers that delays, duplicates, reorders and replays their messages."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import zmq

Frames = list[bytes]
Direction = Literal["up", "down"]
#: Messages of earlier runs, by direction.
Recorded = dict[Direction, list[Frames]]


@dataclass(frozen=True)
class Faults:
    """Probabilities of a fault for each message.

    Attributes
    ----------
    delay, delay_s
        Probability and longest time by which a message is delayed, s; later ones may overtake it.
    duplicate
        Probability that a message is sent twice.
    replay
        Probability that a message of an earlier run is sent beside it.
    """

    delay: float = 0.0
    delay_s: float = 0.0
    duplicate: float = 0.0
    replay: float = 0.0


class FaultProxy:
    """Stands between DEALERs and one ROUTER; each DEALER keeps its identity.

    Parameters
    ----------
    server
        Endpoint of the ROUTER.
    faults
        What happens to messages.
    seed
        Of the random numbers.
    earlier
        Messages of earlier runs to replay.
    rewrite
        Changes the frames of each message of the ROUTER, such as an endpoint in them.

    Attributes
    ----------
    endpoint
        Where DEALERs connect.
    recorded
        All messages that came, by direction: ``up`` to the ROUTER, ``down`` from it.
    injected
        Number of faults by kind.
    """

    def __init__(
        self,
        server: str,
        faults: Faults,
        seed: int,
        *,
        earlier: Recorded | None = None,
        rewrite: Callable[[Frames], Frames] = list,
    ) -> None:
        self._server, self._faults, self._draw = server, faults, random.Random(seed)
        self._earlier = earlier or {"up": [], "down": []}
        self._rewrite = rewrite
        self.recorded: Recorded = {"up": [], "down": []}
        self.injected: Counter[str] = Counter()
        self._due: list[tuple[float, int, bytes, Direction, Frames]] = []
        self._order = itertools.count()
        self._silent: set[bytes] = set()
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.endpoint = f"tcp://127.0.0.1:{self._front.bind_to_random_port('tcp://127.0.0.1')}"
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()

    def silence(self) -> None:
        """Forward nothing more of the peers that are connected now, in either direction."""
        self._silent |= set(self._backs)
        self.injected["silence"] += 1

    def close(self) -> None:
        """Stop the proxy and close its sockets."""
        self._ending.set()
        self._thread.join(10)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._front, zmq.POLLIN)
        while not self._ending.is_set():
            wait_s = self._due[0][0] - time.monotonic() if self._due else 0.05
            ready = dict(poller.poll(max(0, min(50, int(wait_s * 1e3)))))
            if self._front in ready:
                peer, *frames = self._front.recv_multipart()
                if peer not in self._backs:
                    poller.register(self._connect(peer), zmq.POLLIN)
                self._forward(peer, "up", frames)
            for peer, back in self._backs.items():
                if back in ready:
                    self._forward(peer, "down", self._rewrite(back.recv_multipart()))
            self._send_due()

    def _connect(self, peer: bytes) -> zmq.Socket[bytes]:
        back = self._context.socket(zmq.DEALER)
        back.setsockopt(zmq.IDENTITY, peer)
        back.connect(self._server)
        self._backs[peer] = back
        return back

    def _forward(self, peer: bytes, direction: Direction, frames: Frames) -> None:
        self.recorded[direction].append(frames)
        if peer in self._silent:
            return
        self._put(peer, direction, frames, self._delay())
        if self._happens("duplicate", self._faults.duplicate):
            self._put(peer, direction, frames, self._delay())
        earlier: Sequence[Frames] = self._earlier[direction]
        if earlier and self._happens("replay", self._faults.replay):
            self._put(peer, direction, self._draw.choice(earlier), 0.0)

    def _delay(self) -> float:
        delayed = self._happens("delay", self._faults.delay)
        return self._draw.uniform(0, self._faults.delay_s) if delayed else 0.0

    def _happens(self, what: str, probability: float) -> bool:
        happens = self._draw.random() < probability
        self.injected[what] += happens
        return happens

    def _put(self, peer: bytes, direction: Direction, frames: Frames, delay_s: float) -> None:
        due = (time.monotonic() + delay_s, next(self._order), peer, direction, frames)
        heapq.heappush(self._due, due)

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, peer, direction, frames = heapq.heappop(self._due)
            socket: Any = self._backs[peer] if direction == "up" else self._front
            socket.send_multipart(frames if direction == "up" else [peer, *frames], zmq.NOBLOCK)
