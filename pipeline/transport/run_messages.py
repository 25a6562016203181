"""Messages between the processes of one run, with named fields, and their places in the header.

STOP, ERROR, CONTROL, READY, JOIN, SPEC, FLUSH, EOR and the HEARTBEAT of any process but the sink
have no fields and are sent as ``Header(kind)``. Who sends a message adds the session with
`Header.of`. Only the modules of messages read and write `Header.arg1` and `Header.arg2`.
"""

from __future__ import annotations

from typing import NamedTuple

from .protocol import Header, Kind

_DATA, _RESULT, _CREDIT = Kind.DATA, Kind.RESULT, Kind.CREDIT

#: `arg2` has the rung in its lowest byte and the epoch in the 32 bits above it; above that a RESULT
#: has the number of processed events, and DATA whether to search.
_RUNG_BITS, _MODEL_BITS = 8, 40
_RUNG_MASK, _EPOCH_MASK = (1 << _RUNG_BITS) - 1, (1 << 32) - 1


class Data(NamedTuple):
    """DATA, ingest → worker: a batch to process.

    Attributes
    ----------
    seq
        Number of the batch.
    events
        Events of the batch.
    slot
        Shared-memory slot that holds the batch; None when it is in the payload.
    rung
        Rung of the ladder to process it with; 0 for the full models.
    epoch
        Epoch of the models to process it with.
    token
        Token of this assignment of the batch, which its RESULT repeats.
    t_sent
        Time of sending, ns of CLOCK_MONOTONIC on ingest's host.
    search
        Whether to search for the event with which workers have exited.
    """

    seq: int = 0
    events: int = 0
    slot: int | None = None
    rung: int = 0
    epoch: int = 0
    token: int = 0
    t_sent: int = 0
    search: bool = False

    def to_header(self) -> Header:
        """Return the header of this message."""
        seq, events, slot, rung, epoch, token, t_sent, search = self
        arg1 = 0 if slot is None else slot + 1
        models = rung | epoch << _RUNG_BITS | search << _MODEL_BITS
        return Header(_DATA, 0, 0, seq, arg1, events, token, t_sent, models)

    @classmethod
    def from_header(cls, header: Header) -> Data:
        """Return the message that has this header."""
        _, _, _, seq, arg1, events, token, t_sent, models, _ = header
        slot = arg1 - 1 if arg1 else None
        rung, epoch = models & _RUNG_MASK, models >> _RUNG_BITS & _EPOCH_MASK
        search = bool(models >> _MODEL_BITS)
        return cls(seq, events, slot, rung, epoch, token, t_sent, search)


class Result(NamedTuple):
    """RESULT, worker → sink or, between segments, worker → ingest: a processed batch.

    Attributes
    ----------
    seq
        Number of the batch.
    events
        Events of the result.
    slot
        Shared-memory slot that holds the result; None when it is in the payload.
    rung, epoch, token
        The same as in the `Data`.
    processed_events
        Events of the batch that was processed.
    t_sent
        Time of sending, ns of CLOCK_MONOTONIC on the worker's host.
    """

    seq: int = 0
    events: int = 0
    slot: int | None = None
    rung: int = 0
    epoch: int = 0
    processed_events: int = 0
    token: int = 0
    t_sent: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        seq, events, slot, rung, epoch, processed_events, token, t_sent = self
        arg1 = 0 if slot is None else slot + 1
        arg2 = rung | epoch << _RUNG_BITS | processed_events << _MODEL_BITS
        return Header(_RESULT, 0, 0, seq, arg1, events, token, t_sent, arg2)

    @classmethod
    def from_header(cls, header: Header) -> Result:
        """Return the message that has this header."""
        _, _, _, seq, arg1, events, token, t_sent, arg2, _ = header
        slot = arg1 - 1 if arg1 else None
        rung, epoch = arg2 & _RUNG_MASK, arg2 >> _RUNG_BITS & _EPOCH_MASK
        return cls(seq, events, slot, rung, epoch, arg2 >> _MODEL_BITS, token, t_sent)


class Credit(NamedTuple):
    """CREDIT, worker → ingest: the worker asks for batches, and reports the one it processed last.

    Attributes
    ----------
    batches
        Batches that the worker has asked for since its start, so that a message that comes twice or
        late asks for nothing.
    processed_seq
        Number of the batch that was processed last; not meaningful if `processed_events` is 0.
    processed_events
        Events of that batch; 0 if there is nothing to report.
    service_ns
        Time that the worker took for that batch, ns.
    """

    batches: int
    processed_seq: int = 0
    processed_events: int = 0
    service_ns: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        batches, processed_seq, processed_events, service_ns = self
        return Header(_CREDIT, 0, 0, processed_seq, service_ns, processed_events, 0, 0, batches)

    @classmethod
    def from_header(cls, header: Header) -> Credit:
        """Return the message that has this header."""
        return cls(header.arg2, header.seq, header.events, header.arg1)


class CommitAck(NamedTuple):
    """ACK, sink → ingest: batches are committed.

    Attributes
    ----------
    first_seq
        Number of the first batch.
    batches
        Number of consecutive batches, from `first_seq` on.
    """

    first_seq: int
    batches: int

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.ACK, seq=self.first_seq, arg2=self.batches)

    @classmethod
    def from_header(cls, header: Header) -> CommitAck:
        """Return the message that has this header."""
        return cls(header.seq, header.arg2)


class WorkerHello(NamedTuple):
    """HELLO, worker → ingest: the worker is ready.

    Attributes
    ----------
    pid
        Process id of the worker on its host.
    """

    pid: int

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.HELLO, arg2=self.pid)

    @classmethod
    def from_header(cls, header: Header) -> WorkerHello:
        """Return the message that has this header."""
        return cls(header.arg2)


class SinkHello(NamedTuple):
    """HELLO, sink → ingest: the sink is ready.

    Attributes
    ----------
    next_seq
        Number of the batch that the sink expects next.
    """

    next_seq: int

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.HELLO, seq=self.next_seq)

    @classmethod
    def from_header(cls, header: Header) -> SinkHello:
        """Return the message that has this header."""
        return cls(header.seq)


class DiskFull(NamedTuple):
    """DISK_FULL, sink → ingest: the disk is full, or has space again.

    Attributes
    ----------
    full
        Whether it is full now.
    """

    full: bool

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.DISK_FULL, arg2=int(self.full))

    @classmethod
    def from_header(cls, header: Header) -> DiskFull:
        """Return the message that has this header."""
        return cls(header.arg2 != 0)


class SinkHeartbeat(NamedTuple):
    """HEARTBEAT, sink → ingest: the sink runs.

    Attributes
    ----------
    refused
        Messages that the sink has refused since its start.
    """

    refused: int

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.HEARTBEAT, arg2=self.refused)

    @classmethod
    def from_header(cls, header: Header) -> SinkHeartbeat:
        """Return the message that has this header."""
        return cls(header.arg2)
