"""Comparison sink: compares the decisions of a replay with those of a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct, field

from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Array, Schema
from sluice.pipeline.journal.batch_record import DECIDED_OUTCOMES
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.recorded_run import RecordedRun
from sluice.pipeline.journal.resume_point import ResumePoint

from .base import MAX_GROUP_DELAY_S, Keep

Columns = dict[str, Array]

#: Placeholder for events that the replay accepted and the run did not keep; not an `Outcome`.
_NOT_KEPT = np.uint8(Outcome.OPEN)


class ComparisonSink:
    """Compares event by event and keeps nothing; `describe` returns the differences.

    It needs the batches of the run, which the source ``same-batches`` reads. An event that the run
    did not keep was not accepted and has no decision; this is compared too, and so is the number of
    events of each batch by outcome.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Run to compare with, and columns to compare."""

        #: Recording that the sink of the run wrote.
        run: str
        #: Further columns to compare, bit by bit, of the events that the run kept.
        columns: tuple[str, ...] = ()
        #: Number of differences to list; all are counted.
        max_differences: Annotated[int, Meta(ge=0)] = field(default=20, name="most")

    keep: Keep = "all"
    disk_full_timeout_s = 0.0
    max_group_delay_s = MAX_GROUP_DELAY_S

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._run = RecordedRun(Path(options.run))
        self._max_differences = options.max_differences
        self._columns = options.columns
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
        """Open the recording of the run; OSError with `since`: a comparison cannot be continued."""
        if since is not None:
            raise OSError("a comparison cannot be continued after an interruption")
        for name in self._columns:
            ours, theirs = schema[name].spec, self._run.schema[name].spec
            if ours != theirs:
                raise ConfigError(
                    f"{self._run.path}: column {name!r}: expected {ours}, got {theirs}"
                )
        self._bor = bor
        self._recorded = (pair for pair in self._run.batches() if pair[0]["events"])
        self._compared = dict.fromkeys(("batches", "events", "missing_batches"), 0)
        self._different = dict.fromkeys(
            ("batches", "events", DECISION.name, OUTCOME.name, *self._columns), 0
        )
        self._epochs: dict[str, int] = {}
        self._first: list[dict[str, Any]] = []
        return []

    def resume_point(self, run: int | None) -> ResumePoint:
        """Raise ConfigError: there is no journal."""
        raise ConfigError(f"sink {self.name!r}: cannot resume: it keeps no journal")

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Compare the batches of a group with the next batches of the run."""
        stops = np.cumsum(commit.kept).tolist()
        for start, stop in zip([0, *stops], stops, strict=False):
            if stop > start:
                self._compare(batch.slice(start, stop))

    def close(self, eor: dict[str, Any] | None) -> None:
        """Count the batches that were not replayed."""
        self._compared["missing_batches"] = sum(1 for _ in self._recorded)

    def describe(self) -> dict[str, Any]:
        """Return numbers of compared and different events, by column, as ``comparison``."""
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
            # An event that was not kept was not accepted; its outcome is known in the counts only.
            recorded[OUTCOME.name] = np.where(
                batch[OUTCOME.name] == Outcome.ACCEPTED, _NOT_KEPT, batch[OUTCOME.name]
            )
            recorded[OUTCOME.name][rows] = Outcome.ACCEPTED
        for name in self._columns:
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
        """Count the events that differ and list the first of them; return their number."""
        self._compared["batches"] += 1
        self._compared["events"] += batch.events
        for name, mask in different.items():
            self._different[name] += int(mask.sum())
        rows = np.flatnonzero(np.logical_or.reduce(list(different.values())))
        self._different["events"] += len(rows)
        for row in rows[: self._max_differences - len(self._first)].tolist():
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
    """Return the rows of the event ids `wanted` in `ids`, which are unique in a batch."""
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids, wanted, sorter=order)
    rows: Array = order[np.minimum(places, len(ids) - 1)]
    if (ids[rows] != wanted).any():
        raise DataError("comparison: the run kept events that are not in the batch")
    return rows


def _bitwise_different(one: Array, other: Array) -> Array:
    """Return a mask of the events that differ in any bit, bool (N,)."""
    events = len(one)
    bits = (np.ascontiguousarray(a).reshape(events, -1).view(np.uint8) for a in (one, other))
    return np.asarray(np.not_equal(*bits).any(axis=1))
