"""Is each recorded event what the inline engine makes of it? Columns are compared bit by bit."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.recording import Recording, RecordingWriter

from .replay import COLUMNS as REPLAY_COLUMNS
from .stand import COLUMNS, EVENTS, IDS, TAGGERS, Stand


def read_all(path: Path) -> EventBatch:
    """Return all events of a recording."""
    reader = Recording(path)
    try:
        return concatenate(list(reader.batches()))
    finally:
        reader.close()


def live_differences(stand: Stand, report: dict[str, Any]) -> dict[str, int]:
    """Return how many events of the live run's recording differ from the truth, by column.

    What front ends sent is made again from the recorded ids, processed by the inline engine in the
    same batches, once with each tagger, and compared where the tagger was in use.
    """
    recorded = read_all(stand.recording)
    arrived = stand.folder / "arrived.arrows"
    _write_arrived(stand, recorded, arrived)
    tagger_of = {0: TAGGERS[0]} | {swap["epoch"]: swap["to"]["name"] for swap in report["swaps"]}
    unknown = ~np.isin(recorded["epoch"], list(tagger_of))
    found = {"epoch": int(unknown.sum())}
    for tagger in sorted(set(tagger_of.values())):
        truth = _process_again(stand, stand.graph, stand.recording, arrived, tagger)
        epochs = [epoch for epoch, name in tagger_of.items() if name == tagger]
        rows = np.isin(recorded["epoch"], epochs)
        for column, count in count_differences(recorded, truth, COLUMNS, rows).items():
            found[column] = found.get(column, 0) + count
    return {column: count for column, count in found.items() if count}


def replay_differences(stand: Stand) -> dict[str, int]:
    """Return how many events of the killed and resumed replay differ from the truth, by column."""
    replay = stand.replay
    truth = _process_again(stand, replay.graph, replay.recording, replay.input, TAGGERS[0])
    found = count_differences(read_all(replay.recording), truth, REPLAY_COLUMNS)
    return {column: count for column, count in found.items() if count}


def count_differences(
    recorded: EventBatch,
    truth: EventBatch,
    columns: Sequence[str],
    rows: np.ndarray[Any, Any] | None = None,
) -> dict[str, int]:
    """Return the number of events that differ in each column, among `rows` if given."""
    missing = abs(recorded.events - truth.events)
    if missing:
        return {"events": missing}
    if rows is None:
        rows = np.ones(recorded.events, np.bool_)
    return {name: int((_differ(recorded[name], truth[name]) & rows).sum()) for name in columns}


def _differ(one: Any, other: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask of the events that differ in any bit, bool (N,)."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return np.ones(len(one), np.bool_)
    bits = [np.ascontiguousarray(a).reshape(len(one), -1).view(np.uint8) for a in (one, other)]
    different: np.ndarray[Any, np.dtype[np.bool_]] = np.not_equal(*bits).any(axis=1)
    return different


def _write_arrived(stand: Stand, recorded: EventBatch, path: Path) -> None:
    """Write the events that front ends sent, in the order in which they were recorded."""
    source = Recording(stand.events)
    sent = concatenate(list(source.batches()))
    rows = (recorded["event_id"] % np.uint64(IDS) % np.uint64(EVENTS)).astype(np.int64)
    with RecordingWriter(path, source.schema, compression="none") as writer:
        for start in range(0, len(rows), EVENTS):
            part = slice(start, start + EVENTS)
            own = {name: recorded[name][part] for name in ("event_id", "t_event")}
            writer.write(sent.take(rows[part]).with_columns(**own))
    source.close()


def _process_again(
    stand: Stand, graph: Path, recording: Path, events: Path, tagger: str
) -> EventBatch:
    """Return `events` as the inline engine records them, in the batches and rungs of `recording`.

    Parameters
    ----------
    stand
        Its folder and environment are used.
    graph
        Graph file of the run that made `recording`.
    recording, events
        The recording, and the events of its run in the same order.
    tagger
        Model of the stage `tag`.
    """
    tables = tomllib.loads(graph.read_text())
    tables["source"] = {
        "use": "same-batches", "run": str(recording),
        "of": {"use": "recording", "path": str(events)},
    }  # fmt: skip
    for stage in tables["stage"]:
        if stage["name"] == "tag":
            stage["model"] = tagger
    del tables["workers"]
    name = f"{recording.stem}-{tagger}"
    path, out = stand.folder / f"{name}.toml", stand.folder / f"{name}.arrows"
    path.write_text(tomli_w.dumps(tables))
    stand.say("run", str(path), "--engine", "inline", "--http", "127.0.0.1:0", "--out", str(out))
    return read_all(out)
