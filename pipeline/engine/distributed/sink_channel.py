"""What ingest and the sink tell each other beside results and their ACKs."""

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
    """Ingest's side of the talk with the sink.

    Parameters
    ----------
    run
        The run number.
    control
        Held while the sink has no room.

    Attributes
    ----------
    recall
        Whether a sink that was restarted wants what it has not got.
    written
        What the sink says that it wrote; None before it has ended.
    """

    def __init__(self, run: int, control: RunState) -> None:
        self._run = run
        self._control = control
        self._hurried = False
        self._told = 0.0
        self.needs_resend = False
        self.report: dict[str, Any] | None = None

    @property
    def waits_for_room(self) -> bool:
        """Whether the sink has no room."""
        return HOLDER in self._control.holds

    def welcome(self) -> None:
        """Note that the sink is ready, at the start or after its death."""
        self.needs_resend, self._hurried = True, False
        if self.waits_for_room:
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))
        self._control.remove_hold(HOLDER)

    def hear(self, header: Header, payload: Sequence[memoryview]) -> None:
        """Take DISK_FULL or EOR: pause while there is no room; what was written.

        Raises
        ------
        RunError
            If there is no room before the run has begun.
        """
        if header.kind == Kind.EOR:
            self.report = msgspec.json.decode(payload[0])
        elif DiskFull.from_header(header).full:
            why = msgspec.json.decode(payload[0])
            if self._control.state is State.CONFIGURED:  # nothing runs yet that could wait
                raise RunError(f"sink: cannot open: {why}")
            self._control.add_hold(HOLDER, why)
            _LOG.warning("paused: the sink cannot write: %s", why, extra=fields("disk-full"))
        else:
            self._control.remove_hold(HOLDER)
            _LOG.info("resumed: the sink can write again", extra=fields("disk-recovered"))

    def request_flush(self, hub: Router, sink: Process) -> None:
        """Tell the sink, once, that no more batches come: it need not hold results for company."""
        if not self._hurried and sink.ready:
            header = Header(Kind.FLUSH, self._run)
            self._hurried = hub.send(header, to=SINK.encode())

    def end(self, hub: Router, sink: Process, eor: bytes) -> bool:
        """Give the sink the end-of-run record, once each time it was started; whether now."""
        if not sink.ready or self._told == sink.born_s:
            return False
        self._told = sink.born_s
        return hub.send(Header(Kind.EOR, self._run), eor, to=SINK.encode())
