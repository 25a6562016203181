"""Messages between the processes of one run, with named fields, and their places in the header.

STOP, HEARTBEAT, ERROR, CONTROL, READY, JOIN, SPEC, FLUSH and EOR have no fields beside the run
number and are sent as ``Header(kind, run)``. Only the modules of messages read and write
`Header.arg1` and `Header.arg2`.
"""

from __future__ import annotations

from typing import NamedTuple

from .protocol import Header, Kind

_DATA, _RESULT, _ACK, _CREDIT, _HELLO = Kind.DATA, Kind.RESULT, Kind.ACK, Kind.CREDIT, Kind.HELLO

#: `Data` has the rung in the lowest byte of `arg2` and the epoch above it.
_RUNG_BITS = 8
_RUNG_MASK = (1 << _RUNG_BITS) - 1


class Data(NamedTuple):
    """DATA, ingest → worker: a batch to process.

    Attributes
    ----------
    run
        Run number.
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
    t_ingest, t_sent
        Times, ns of CLOCK_MONOTONIC on ingest's host.
    """

    run: int = 0
    seq: int = 0
    events: int = 0
    slot: int | None = None
    rung: int = 0
    epoch: int = 0
    t_ingest: int = 0
    t_sent: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        run, seq, events, slot, rung, epoch, t_ingest, t_sent = self
        arg1 = 0 if slot is None else slot + 1
        models = rung | epoch << _RUNG_BITS
        return Header(_DATA, run, 0, seq, arg1, events, t_ingest, t_sent, models)

    @classmethod
    def from_header(cls, header: Header) -> Data:
        """Return the message that has this header."""
        _, run, _, seq, arg1, events, t_ingest, t_sent, models, _ = header
        slot = arg1 - 1 if arg1 else None
        rung, epoch = models & _RUNG_MASK, models >> _RUNG_BITS
        return cls(run, seq, events, slot, rung, epoch, t_ingest, t_sent)


class Result(NamedTuple):
    """RESULT, worker → sink or, between segments, worker → ingest: a processed batch.

    Attributes
    ----------
    run
        Run number.
    seq
        Number of the batch.
    events
        Events of the result.
    slot
        Shared-memory slot that holds the result; None when it is in the payload.
    processed_events
        Events of the batch that was processed.
    t_ingest, t_sent
        Times, ns of CLOCK_MONOTONIC on the worker's host.
    """

    run: int = 0
    seq: int = 0
    events: int = 0
    slot: int | None = None
    processed_events: int = 0
    t_ingest: int = 0
    t_sent: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        run, seq, events, slot, processed_events, t_ingest, t_sent = self
        arg1 = 0 if slot is None else slot + 1
        return Header(_RESULT, run, 0, seq, arg1, events, t_ingest, t_sent, processed_events)

    @classmethod
    def from_header(cls, header: Header) -> Result:
        """Return the message that has this header."""
        _, run, _, seq, arg1, events, t_ingest, t_sent, processed_events, _ = header
        slot = arg1 - 1 if arg1 else None
        return cls(run, seq, events, slot, processed_events, t_ingest, t_sent)


class Credit(NamedTuple):
    """CREDIT, worker → ingest: the worker asks for batches, and reports the one it processed last.

    Attributes
    ----------
    batches
        Batches that the worker asks for, beside those it asked for before.
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
    run
        Run number.
    """

    first_seq: int
    batches: int
    run: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_ACK, self.run, seq=self.first_seq, arg2=self.batches)

    @classmethod
    def from_header(cls, header: Header) -> CommitAck:
        """Return the message that has this header."""
        return cls(header.seq, header.arg2, header.run)


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
        return Header(_HELLO, arg2=self.pid)

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
    run
        Run number.
    """

    next_seq: int
    run: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(_HELLO, self.run, seq=self.next_seq)

    @classmethod
    def from_header(cls, header: Header) -> SinkHello:
        """Return the message that has this header."""
        return cls(header.seq, header.run)


class DiskFull(NamedTuple):
    """DISK_FULL, sink → ingest: the disk is full, or has space again.

    Attributes
    ----------
    full
        Whether it is full now.
    run
        Run number.
    """

    full: bool
    run: int = 0

    def to_header(self) -> Header:
        """Return the header of this message."""
        return Header(Kind.DISK_FULL, self.run, arg2=int(self.full))

    @classmethod
    def from_header(cls, header: Header) -> DiskFull:
        """Return the message that has this header."""
        return cls(header.arg2 != 0, header.run)
