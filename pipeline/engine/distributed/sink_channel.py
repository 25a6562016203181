"""Ingest's messages to and from the sink, other than the ACKs of results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.log import fields
from sluice.pipeline.engine.storage_retry import HOLDER
from sluice.pipeline.engine.workers.router import Router
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.transport.protocol import Header, Kind
from sluice.pipeline.transport.run_messages import DiskFull

from .process import Process
from .supervisor import SINK

_LOG = logging.getLogger("sluice.engine")


class SinkChannel:
    """Ingest's state of the sink: disk space, end of run, need to send batches again.

    Parameters
    ----------
    run
        The run number.
    control
        State of the run; paused by a hold while the sink's disk is full.

    Attributes
    ----------
    needs_resend
        Whether the batches in flight must be sent again, because the sink was restarted.
    report
        Report of the sink on its output; None before its end.
    """

    def __init__(self, run: int, control: RunState) -> None:
        self._run = run
        self._control = control
        self._flush_requested = False
        self._eor_sent_to_s = 0.0
        self.needs_resend = False
        self.report: dict[str, Any] | None = None

    @property
    def disk_full(self) -> bool:
        """Whether the sink waits for disk space."""
        return HOLDER in self._control.holds

    def on_ready(self) -> None:
        """Record that the sink is ready, at the start or after a restart."""
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
            self.report = msgspec.json.decode(payload[0])
        elif DiskFull.from_header(header).full:
            why = msgspec.json.decode(payload[0])
            if self._control.state is State.CONFIGURED:  # there is no run yet to be paused
                raise RunError(f"sink: cannot open: {why}")
            self._control.add_hold(HOLDER, why)
            _LOG.warning("paused: the sink cannot write: %s", why, extra=fields("disk-full"))
        else:
            self._control.remove_hold(HOLDER)
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))

    def request_flush(self, router: Router, sink: Process) -> None:
        """Send FLUSH, once: no more batches come, so the sink need not wait to fill a group."""
        if not self._flush_requested and sink.ready:
            header = Header(Kind.FLUSH, self._run)
            self._flush_requested = router.send(header, to=SINK.encode())

    def send_eor(self, router: Router, sink: Process, eor: bytes) -> bool:
        """Send the end-of-run record, once to each started sink; return whether it was sent now."""
        if not sink.ready or self._eor_sent_to_s == sink.started_s:
            return False
        self._eor_sent_to_s = sink.started_s
        return router.send(Header(Kind.EOR, self._run), eor, to=SINK.encode())
