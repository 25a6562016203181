"""Compares what a replay decides with what a recorded run decided, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Array, Schema
from sluice.pipeline.journal.batch_record import DECIDED_OUTCOMES
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.recorded_run import RecordedRun
from sluice.pipeline.journal.resume_point import ResumePoint

from .base import HOLD_S, Keep

Columns = dict[str, Array]

#: An outcome that no event has: accepted by the replay, not kept by the run.
_NOT_KEPT = np.uint8(Outcome.OPEN)


class ComparisonSink:
    """Keeps nothing; `describe` tells the differences. See `Sink`.

    Needs the run's batches, which the source `same-batches` gives. What the run did not keep was
    not accepted, and has no decision: that is compared too, and how many events of each batch
    ended how.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Which run, and what to compare."""

        #: The recording that the run's sink wrote.
        run: str
        #: More columns to compare, bit by bit, where the run kept the event.
        columns: tuple[str, ...] = ()
        #: Differences that are listed; all are counted.
        most: Annotated[int, Meta(ge=0)] = 20

    keep: Keep = "all"
    disk_full_timeout_s = 0.0
    max_group_delay_s = HOLD_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._run = RecordedRun(Path(options.run))
        self._most = options.most
        self._more = options.columns
        recorded = self._run.schema
        for column in (EVENT_ID.name, DECISION.name, *options.columns):
            if column not in recorded:
                raise ConfigError(
                    f"{options.run}: column {column!r}: expected the run to keep it",
                    did_you_mean(column, recorded.names),
                )
        ours = (EVENT_ID.name, OUTCOME.name, DECISION.name)
        self.columns = ours + tuple(name for name in options.columns if name not in ours)

    def open(
        self, schema: Schema, bor: dict[str, Any], since: int | None = None
    ) -> list[CommitRecord]:
        """Begin to read the run; OSError for going on, which a comparison cannot."""
        if since is not None:
            raise OSError("a comparison cannot go on where it was broken off")
        for name in self._more:
            ours, theirs = schema[name].spec, self._run.schema[name].spec
            if ours != theirs:
                raise ConfigError(
                    f"{self._run.path}: column {name!r}: expected {ours}, got {theirs}"
                )
        self._bor = bor
        self._recorded = (pair for pair in self._run.batches() if pair[0]["events"])
        self._compared = dict.fromkeys(("batches", "events", "missing_batches"), 0)
        self._different = dict.fromkeys(
            ("batches", "events", DECISION.name, OUTCOME.name, *self._more), 0
        )
        self._epochs: dict[str, int] = {}
        self._first: list[dict[str, Any]] = []
        return []

    def resume_point(self, run: int | None) -> ResumePoint:
        """Refuse: there is no journal."""
        raise ConfigError(f"sink {self.name!r}: cannot resume: it keeps no journal")

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Compare the batches of a group with the run's next ones."""
        stops = np.cumsum(commit.kept).tolist()
        for start, stop in zip([0, *stops], stops, strict=False):
            if stop > start:
                self._compare(batch.slice(start, stop))

    def close(self, eor: dict[str, Any] | None) -> None:
        """Count the batches that were not replayed."""
        self._compared["missing_batches"] = sum(1 for _ in self._recorded)

    def describe(self) -> dict[str, Any]:
        """Return as ``comparison`` what was compared and what differs; ``same`` if nothing does."""
        bor = self._run.bor
        models, ours = bor.get("models", {}), self._bor.get("models", {})
        menu, our_menu = bor.get("menu") or {}, self._bor.get("menu") or {}
        comparison = {
            "recording": str(self._run.path),
            "run": bor.get("run"),
            **self._compared,
            "different": self._different,
            "epochs": self._epochs,
            "first": self._first,
            "menu": [menu.get("version"), our_menu.get("version")],
            "models": {
                stage: [models.get(stage), ours.get(stage)]
                for stage in sorted({*models, *ours})
                if models.get(stage) != ours.get(stage)
            },
            "same": not (self._different["batches"] or self._compared["missing_batches"]),
        }
        return {"comparison": comparison}

    def _compare(self, batch: EventBatch) -> None:
        record, kept = next(self._recorded)
        rows = _rows_of(kept[EVENT_ID.name], batch[EVENT_ID.name])
        recorded = {DECISION.name: np.zeros(batch.events, np.uint64)}
        if OUTCOME.name in kept or not self._run.keeps_all:
            # What was not kept was not accepted; how else it ended, only the counts tell.
            recorded[OUTCOME.name] = np.where(
                batch[OUTCOME.name] == Outcome.ACCEPTED, _NOT_KEPT, batch[OUTCOME.name]
            )
            recorded[OUTCOME.name][rows] = Outcome.ACCEPTED
        for name in self._more:
            recorded[name] = batch[name].copy()
        for name in recorded.keys() & set(self._run.schema.names):
            recorded[name][rows] = kept[name]
        different = {
            name: _bitwise_different(batch[name], array) for name, array in recorded.items()
        }
        counts = np.bincount(batch[OUTCOME.name], minlength=len(Outcome))
        events = self._count(int(record["seq"]), batch, recorded, different)
        epoch = str(record["epoch"])
        self._epochs[epoch] = self._epochs.get(epoch, 0) + events
        if events or any(
            counts[outcome] != record[outcome.name.lower()] for outcome in DECIDED_OUTCOMES
        ):
            self._different["batches"] += 1

    def _count(self, seq: int, batch: EventBatch, recorded: Columns, different: Columns) -> int:
        """Count the events that differ, list the first of them, and return how many."""
        self._compared["batches"] += 1
        self._compared["events"] += batch.events
        for name, mask in different.items():
            self._different[name] += int(mask.sum())
        rows = np.flatnonzero(np.logical_or.reduce(list(different.values())))
        self._different["events"] += len(rows)
        for row in rows[: self._most - len(self._first)].tolist():
            self._first.append(
                {
                    "batch_seq": seq,
                    "event_id": int(batch[EVENT_ID.name][row]),
                    **{
                        name: [recorded[name][row].tolist(), batch[name][row].tolist()]
                        for name, mask in different.items()
                        if mask[row]
                    },
                }
            )
        return len(rows)


def _rows_of(wanted: Array, ids: Array) -> Array:
    """Return where the ids wanted stand among `ids`, which are unique in a batch."""
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids, wanted, sorter=order)
    rows: Array = order[np.minimum(places, len(ids) - 1)]
    if (ids[rows] != wanted).any():
        raise DataError("comparison: the run kept events that are not in the batch")
    return rows


def _bitwise_different(one: Array, other: Array) -> Array:
    """Return which events differ in a bit."""
    events = len(one)
    bits = (np.ascontiguousarray(a).reshape(events, -1).view(np.uint8) for a in (one, other))
    return np.asarray(np.not_equal(*bits).any(axis=1))
