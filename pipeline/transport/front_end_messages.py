"""Messages between front ends and ingest, with named fields, and their places in the header.

One class for each meaning of a kind: `Kind.ACK` to a front end and `Kind.ACK` from the sink have
different fields. HELLO, HEARTBEAT and ERROR to a front end have no fields and are sent as
``Header(kind)``. Only the modules of messages read and write `Header.arg1` and `Header.arg2`.
"""

from __future__ import annotations

from typing import NamedTuple

from .protocol import Header, Kind

_BOR, _EOR, _ACK, _BUSY = Kind.BOR, Kind.EOR, Kind.ACK, Kind.BUSY


class BeginOfRun(NamedTuple):
    """BOR, front end → ingest: a front end begins.

    Attributes
    ----------
    next_event
        Number of the next event in the front end's counter.
    source
        Number of the front end.
    """

    next_event: int
    source: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_BOR, source=self.source, arg1=self.next_event)

    @classmethod
    def from_header(cls, header: Header) -> BeginOfRun:
        """Return the message that has this header."""
        return cls(header.arg1, header.source)


class EndOfRun(NamedTuple):
    """EOR, front end → ingest: a front end has sent its last event.

    Attributes
    ----------
    next_event
        Final value of the front end's event counter.
    source
        Number of the front end.
    """

    next_event: int
    source: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_EOR, source=self.source, arg1=self.next_event)

    @classmethod
    def from_header(cls, header: Header) -> EndOfRun:
        """Return the message that has this header."""
        return cls(header.arg1, header.source)


class EventData(NamedTuple):
    """DATA or RAW, front end → ingest: events.

    Attributes
    ----------
    kind
        `Kind.DATA` for a record batch, `Kind.RAW` for packed records.
    source
        Number of the front end.
    seq
        Number of the message.
    first_event
        The front end's event counter before the first event of the message.
    events
        Number of events.
    length
        Payload, bytes; known after receiving.
    """

    kind: int
    source: int = 0
    seq: int = 0
    first_event: int = 0
    events: int = 0
    length: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        kind, source, seq, first_event, events, _ = self
        # Not by `Header(…)`: a front end may send an event a message, and this takes half the time.
        return tuple.__new__(Header, (kind, 0, source, seq, first_event, events, 0, 0, 0, 0))

    @classmethod
    def from_header(cls, header: Header) -> EventData:
        """Return the message that has this header."""
        kind, _, source, seq, first_event, events, _, _, _, length = header
        return cls(kind, source, seq, first_event, events, length)


class EventAck(NamedTuple):
    """ACK, ingest → front end: ingest has accounted for all events before this one.

    Attributes
    ----------
    next_event
        Number of the event that ingest expects next.
    max_message_bytes
        Largest message that ingest accepts, bytes; in the answer to BOR only, 0 otherwise.
    """

    next_event: int
    max_message_bytes: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_ACK, arg1=self.next_event, arg2=self.max_message_bytes)

    @classmethod
    def from_header(cls, header: Header) -> EventAck:
        """Return the message that has this header."""
        return cls(header.arg1, header.arg2)


class Busy(NamedTuple):
    """BUSY, ingest → front end: the front end should pause, or go on.

    Attributes
    ----------
    pause
        Whether it should pause.
    """

    pause: bool

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_BUSY, arg2=int(self.pause))

    @classmethod
    def from_header(cls, header: Header) -> Busy:
        """Return the message that has this header."""
        return cls(header.arg2 != 0)
