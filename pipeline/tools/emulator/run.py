"""Run of one emulated front end: load the events, send them, return the counts."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import T_INGEST, Schema
from sluice.pipeline.recording import Recording
from sluice.pipeline.transport.curve_keys import ClientAuth

from .front_end import FrontEndEmulator, Sent

#: Events that are simulated; a front end sends them over and over.
_SIMULATED = 65_536
#: Columns that no detector sends.
_NOT_SENT = (T_INGEST.name, "truth")


def load_events(family: str, recording: Path | None, seed: int) -> tuple[EventBatch, Schema]:
    """Return the events that a front end sends, and their record type.

    Parameters
    ----------
    family
        Detector family to simulate, such as ``wafers``.
    recording
        Recording to take the events from; None to simulate them.
    seed
        Seed of the simulation.

    Raises
    ------
    DataError
        If the recording has no events.
    """
    if recording is not None:
        reader = Recording(recording)
        batches = list(reader.batches())
        reader.close()
        if not batches:
            raise DataError(f"{recording}: expected events to send, got none")
        batch, schema = concatenate(batches), reader.schema
    else:
        (simulator,) = entry_points(group="sluice.simulators")
        batch, schema = simulator.load()(family, _SIMULATED, seed)
    return batch, Schema(column for column in schema if column.name not in _NOT_SENT)


def emulate(
    endpoint: str,
    events: EventBatch,
    schema: Schema,
    rate_hz: float,
    total: int,
    per_message: int,
    first_id: int,
    security: ClientAuth | None,
    progress: Callable[[Sent], None] | None = None,
) -> Sent:
    """Send events to an ingest socket at a set rate and return the counts.

    Parameters
    ----------
    endpoint
        Endpoint of the ingest socket.
    events, schema
        Events to send over and over, and their record type.
    rate_hz
        Events per second.
    total
        Number of events.
    per_message
        Events in a message.
    first_id
        Id of the first event.
    security
        CURVE keys; None for a plain connection.
    progress
        Called with the counts so far, twenty times a second.

    Raises
    ------
    RunError
        If ingest does not answer, or refuses the record type.
    """
    front_end = FrontEndEmulator(endpoint, events, schema, security=security, first_id=first_id)
    try:
        return front_end.run(rate_hz, total, per_message, progress)
    finally:
        front_end.close()
