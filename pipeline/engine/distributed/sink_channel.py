"""Ingest's messages to and from the sink, other than the ACKs of results."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.log import fields
from sluice.pipeline.engine.base import SinkReport
from sluice.pipeline.engine.storage_retry import HOLDER
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import DiskFull, SinkHeartbeat

from .process import Process
from .sessions import Sessions
from .supervisor import SINK

_LOG = logging.getLogger("sluice.engine")


class SinkChannel:
    """Ingest's state of the sink: disk space, end of run, need to send batches again.

    Parameters
    ----------
    sessions
        Sends to the sink.
    accounting
        Counts the messages that the sink has refused.
    control
        State of the run; paused by a hold while the sink's disk is full.

    Attributes
    ----------
    needs_resend
        Whether the batches in flight must be sent again, because the sink was restarted.
    report
        Report of the sink; None before its end.
    """

    def __init__(self, sessions: Sessions, accounting: RunAccounting, control: RunState) -> None:
        self._sessions, self._accounting = sessions, accounting
        self._refused = 0
        self._control = control
        self._flush_requested = False
        self._eor_sent_to_s = 0.0
        self.needs_resend = False
        self.report: SinkReport | None = None

    @property
    def disk_full(self) -> bool:
        """Whether the sink waits for disk space."""
        return HOLDER in self._control.holds

    def on_ready(self) -> None:
        """Record that the sink is ready, at the start or after a restart."""
        self._refused = 0
        self.needs_resend, self._flush_requested = True, False
        if self.disk_full:
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))
        self._control.remove_hold(HOLDER)

    def on_message(self, _: str, header: Header, payload: Sequence[memoryview]) -> None:
        """Handle DISK_FULL, by pausing or resuming the run, and EOR, by keeping the sink's report.

        Raises
        ------
        RunError
            If the disk is full before the run has started.
        """
        if header.kind == Kind.EOR:
            self.report = msgspec.json.decode(payload[0], type=SinkReport)
        elif DiskFull.from_header(header).full:
            why = msgspec.json.decode(payload[0])
            if self._control.state is State.CONFIGURED:  # there is no run yet to be paused
                raise RunError(f"sink: cannot open: {why}")
            self._control.add_hold(HOLDER, why)
            _LOG.warning("paused: the sink cannot write: %s", why, extra=fields("disk-full"))
        else:
            self._control.remove_hold(HOLDER)
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))

    def on_heartbeat(self, _: str, header: Header, __: Sequence[memoryview]) -> None:
        """Count the messages that the sink has refused since its last heartbeat."""
        refused = SinkHeartbeat.from_header(header).refused
        new, self._refused = refused - self._refused, max(refused, self._refused)
        if new > 0:
            self._accounting.record_protocol_error(new)

    def request_flush(self, sink: Process) -> None:
        """Send FLUSH, once: no more batches come, so the sink need not wait to fill a group."""
        if not self._flush_requested and sink.ready:
            self._flush_requested = self._sessions.send(SINK, Header(Kind.FLUSH))

    def send_eor(self, sink: Process, eor: bytes) -> bool:
        """Send the end-of-run record, once to each started sink; return whether it was sent now."""
        if not sink.ready or self._eor_sent_to_s == sink.started_s:
            return False
        self._eor_sent_to_s = sink.started_s
        return self._sessions.send(SINK, Header(Kind.EOR), eor)
