"""Simulated events to a recording: block by block, in as many processes as are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from sluice.exporters.families.base import Events, Family, get
from sluice.exporters.training.parallel import process_pool, progress
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.core.output_files import create_file
from sluice.pipeline.recording import (
    RecordingWriter,
    ResumeOffset,
    find_resume_offset,
    is_recording,
)


def record(
    family: Family,
    events: int,
    seed: int,
    path: Path,
    *,
    processes: int | None = None,
    resume: bool = False,
    force: bool = False,
) -> None:
    """Write `events` simulated events of `family` to a recording.

    The file is the same whatever the number of processes, and whether it was made in one go.

    Parameters
    ----------
    family, events, seed
        Family, number of events and seed of the simulation.
    path
        The recording.
    processes
        Number of processes that simulate; the family's default if None.
    resume
        Whether to continue an incomplete file after its last whole block.
    force
        Whether to replace an existing recording.

    Raises
    ------
    ConfigError
        If the file to go on with holds other events, or exists and may not be replaced.
    DataError
        If the file cannot be written.
    """
    bor = {
        "simulated": family.name,
        "seed": seed,
        "events": events,
        "labels": {"truth": family.labels},
    }
    tail = _tail(path, msgspec.json.encode(bor)) if resume and path.exists() else None
    if tail is not None and tail.ended:
        return
    if tail is None:
        created = create_file(path, "a recording", is_recording, force=force)
        if created is not None:
            created.keep()
    first = tail.rows if tail else 0
    found = _simulated(family, events, seed, first, processes or family.processes)
    try:
        with RecordingWriter(path, family.schema, bor, tail=tail) as writer, progress() as bar:
            task = bar.add_task("simulate", total=events, completed=first)
            for columns in found:
                count = len(columns["event_id"])
                seq = writer.events // family.block_events
                writer.write(EventBatch(columns, count, seq))
                bar.advance(task, count)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from error


def _tail(path: Path, bor: bytes) -> ResumeOffset:
    tail = find_resume_offset(path)
    if tail.bor != bor:
        raise ConfigError(
            f"{path}: cannot go on: it holds {tail.bor.decode()}, expected {bor.decode()}",
            "simulate without --resume, or into another file",
        )
    return tail


def _simulated(
    family: Family, events: int, seed: int, first: int, processes: int
) -> Iterator[Events]:
    spans = family.spans(events, first)
    if processes == 1:
        yield from (family.block(count, seed, start) for count, start in spans)
        return
    with process_pool(processes) as pool:
        waiting: deque[Future[Events]] = deque()
        for count, start in spans:
            waiting.append(pool.submit(_block, family.name, count, seed, start))
            if len(waiting) > 2 * processes:  # bounds memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _block(family: str, events: int, seed: int, first: int) -> Events:
    return get(family).block(events, seed, first)
