"""Connected front ends of an ingest socket, each with its event counter."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.log import limiter
from sluice.pipeline.transport.front_end_messages import BeginOfRun, Busy, EventAck
from sluice.pipeline.transport.peer_table import PeerTable
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.socket import Socket

_LOG = logging.getLogger("sluice.source")
#: Maximum gap of the event counter that counts as loss; a larger one means a broken counter.
_MAX_GAP_EVENTS = 1 << 40
#: Mask of the event counter, which has 64 bits.
_COUNTER = (1 << 64) - 1
#: Time between two acknowledgements to a front end that sends, s.
_ACK_PERIOD_S = 1.0
_BUSY, _FREE = Busy(True).to_header(), Busy(False).to_header()


@dataclass(slots=True)
class FrontEnd:
    """One connected front end.

    Attributes
    ----------
    source
        Number of the source, which the front end chose.
    row
        Row of the front end in `peers`.
    acknowledged
        Event counter in the last acknowledgement that was sent to it.
    peers
        Table with the event counters of all front ends.
    """

    source: int
    row: int
    acknowledged: int
    peers: PeerTable

    @property
    def next_event(self) -> int:
        """Event counter of its next event, 64 bits with wrap-around."""
        return int(self.peers.expected[self.row])

    @next_event.setter
    def next_event(self, event: int) -> None:
        self.peers.expected[self.row] = event & _COUNTER

    def gap(self, first: int) -> int:
        """Return the number of events that are missing before event `first`.

        Raises
        ------
        ProtocolError
            If events are repeated, or the gap is so large that the counter must be broken.
        """
        gap = first - self.next_event
        if gap > _MAX_GAP_EVENTS:
            raise ProtocolError(
                f"source {self.source}: expected event {self.next_event}, got {first}: "
                "not a believable loss, dropped"
            )
        if gap < 0:
            raise ProtocolError(
                f"source {self.source}: expected event {self.next_event} or later, got {first}: "
                "repeated, dropped"
            )
        return gap


class FrontEnds:
    """Connected front ends by ZeroMQ identity.

    Parameters
    ----------
    max_front_ends
        Maximum number of front ends at a time.

    Attributes
    ----------
    peers
        Identities and event counters, for the receive loop in machine code.
    get
        Returns the `FrontEnd` of an identity, None if it is not connected.
    """

    def __init__(self, max_front_ends: int) -> None:
        self._max_front_ends = max_front_ends
        self.peers = PeerTable(max_front_ends)
        self._known: dict[bytes, FrontEnd] = {}
        self._last_ack_s = 0.0
        self._busy = self._again = False
        self.get = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def register(self, peer: bytes, begin: BeginOfRun, socket: Socket) -> None:
        """Add a front end; ProtocolError if there are too many."""
        if peer not in self._known and len(self._known) >= self._max_front_ends:
            self._remove_disconnected(socket)
        if peer not in self._known and len(self._known) >= self._max_front_ends:
            raise ProtocolError(
                f"BOR: expected at most {self._max_front_ends} front ends at a time, got one more",
                hint="raise `front_ends` of the source",
            )
        known = self._known.get(peer)
        if known is not None:
            self.peers.drop(known.row)
        row = self.peers.add(peer, begin.next_event)
        self._known[peer] = FrontEnd(begin.source, row, begin.next_event, self.peers)
        _log("connected", peer, begin.source, begin.next_event)

    def set_busy(self, socket: Socket, *, busy: bool) -> None:
        """Ask all front ends to pause, or to go on."""
        self._busy, self._again = busy, True
        for peer in self._known:
            socket.send(_BUSY if busy else _FREE, to=peer)

    def unregister(self, peer: bytes) -> None:
        """Remove a front end."""
        gone = self._known.pop(peer)
        _log("gone", peer, gone.source, gone.next_event)
        self.peers.drop(gone.row)

    def acknowledge(self, socket: Socket, *, now: bool = False) -> None:
        """Send each front end its event counter, at most once a second unless `now`."""
        time_s = time.monotonic()
        if not now and time_s - self._last_ack_s < _ACK_PERIOD_S:
            return
        self._last_ack_s = time_s
        again, self._again = self._again, self._busy
        for peer, front_end in self._known.items():
            if again:  # a message may have been lost
                socket.send(_BUSY if self._busy else _FREE, to=peer)
            if front_end.acknowledged != front_end.next_event:
                front_end.acknowledged = front_end.next_event
                socket.send(EventAck(front_end.next_event).to_header(), to=peer)

    def _remove_disconnected(self, socket: Socket) -> None:
        """Remove front ends to which no message can be sent any more."""
        ping = Header(Kind.HEARTBEAT)
        for peer in [peer for peer in self._known if not socket.send(ping, to=peer)]:
            self.unregister(peer)


def _log(what: str, peer: bytes, source: int, event: int) -> None:
    """Log that a front end connected or left, with its event counter."""
    name = peer.decode(errors="backslashreplace")
    text = "front end {peer!r} (source {source}) {what} at event {next_event}"
    limiter.info(
        _LOG, f"front-end-{what}", text, peer=name, source=source, what=what, next_event=event
    )
