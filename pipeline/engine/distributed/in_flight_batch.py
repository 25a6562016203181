"""A batch in flight: the events, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sluice.pipeline.core.batch import EventBatch


@dataclass(kw_only=True, slots=True)
class InFlightBatch:
    """A batch between ingest and sink, its worker, and the slots that have held it.

    Attributes
    ----------
    batch
        The events.
    epoch
        Model epoch to process this batch with.
    rung
        Ladder rung to process this batch on.
    worker
        Name of the worker that has the batch; empty while it waits for one.
    token
        Token with which the batch was sent to the worker; its result repeats it.
    sent_idle_ns
        Time the batch was sent to an idle worker, ns of CLOCK_MONOTONIC; 0 if the worker was busy,
        when transport time cannot be separated from queueing.
    used_slots
        Shared-memory slots that have held the batch.
    slot
        Shared-memory slot that holds the batch; None when it was sent in the message.
    segment
        Segment of the chain that processes the batch, or comes next.
    service_ns
        Service time in the earlier segments, ns.
    exits
        Number of workers that have exited while they had the batch.
    remote_exits
        Number of remote workers that have exited while they processed the batch.
    segment_payload
        Result frames of the previous segment, sent on to the next one.
    """

    batch: EventBatch
    epoch: int = 0
    rung: int = 0
    worker: str = ""
    token: int = 0
    sent_idle_ns: int = 0
    used_slots: list[int] = field(default_factory=list)
    slot: int | None = None
    segment: int = 0
    service_ns: int = 0
    exits: int = 0
    remote_exits: int = 0
    segment_payload: Sequence[Any] = ()
