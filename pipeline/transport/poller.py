"""Waiting for messages of several sockets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from .descriptor_poll import DescriptorPoll
from .zap import authenticator


class _Pollable(Protocol):
    @property
    def readable(self) -> bool:
        """Whether there is a message."""

    @property
    def descriptor(self) -> int:
        """File descriptor that becomes readable when the state of the socket changes."""


S = TypeVar("S", bound=_Pollable)


class Poller(Generic[S]):
    """Waits for several sockets at once, to the microsecond; ZeroMQ's own poll counts in ms.

    Meanwhile it answers the ZAP requests for the protected sockets of this process.

    Parameters
    ----------
    sockets
        The sockets.
    """

    def __init__(self, sockets: Iterable[S]) -> None:
        self._sockets = list(sockets)
        self._generation = -1
        self._descriptors = DescriptorPoll(())

    def poll(self, timeout_s: float) -> list[S]:
        """Return the sockets that have a message, after at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        # The descriptor of a ZeroMQ socket becomes readable when its state changes, not while a
        # message waits: check the sockets first.
        while True:
            if authenticator.sockets:
                authenticator.answer_requests()
            ready = [socket for socket in self._sockets if socket.readable]
            remaining_s = deadline - time.monotonic()
            if ready or remaining_s <= 0:
                return ready
            if self._generation != authenticator.generation:
                self._generation = authenticator.generation
                own = [socket.descriptor for socket in self._sockets]
                requests = [int(socket.fileno()) for socket in authenticator.sockets]
                self._descriptors = DescriptorPoll(own + requests)
            self._descriptors.wait(remaining_s)
