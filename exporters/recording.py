"""Simulated events to a recording."""

from __future__ import annotations

from pathlib import Path

from sluice.pipeline.batch import EventBatch
from sluice.pipeline.errors import DataError
from sluice.pipeline.recording import RecordingWriter

from .families import Family
from .progress import progress


def record(family: Family, events: int, seed: int, path: Path) -> None:
    """Write `events` simulated events of `family` to a recording.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    bor = {
        "simulated": family.name,
        "seed": seed,
        "events": events,
        "labels": {"truth": family.labels},
    }
    try:
        with RecordingWriter(path, family.schema, bor) as writer, progress() as bar:
            task = bar.add_task("simulate", total=events)
            for seq, columns in enumerate(family.blocks(events, seed)):
                count = len(columns["event_id"])
                writer.write(EventBatch(columns, count, seq))
                bar.advance(task, count)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from error
