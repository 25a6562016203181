"""The trigger menu: paths with conditions, prescales, and pass-through, all deterministic.

Prescale and pass-through come from a hash of the event id, so a decision does not depend on
which worker judged the event, nor on what came before it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from sluice.kernels.hashing import salt_of, sampled
from sluice.kernels.menu import fire, settle

from ..batch import DECISION, EVENT_ID, OUTCOME, Column, EventBatch, Pool, Schema
from ..conditions import Condition
from ..errors import ConfigError

#: The decision bit of events that are kept whatever the paths say.
PASS_THROUGH_BIT = 63


class Path(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the menu."""

    name: str
    #: Comparisons of columns with numbers, joined by and, or, not.
    where: str
    #: Keep one in this many of the events that fire.
    prescale: Annotated[float, Meta(ge=1)] = 1.0


class Menu:
    """Sets `decision` (one bit a path) and `outcome` (accepted, prescaled or rejected)."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """The paths, in the order of their bits."""

        path: tuple[Path, ...]
        #: Fraction of events kept in any case.
        pass_through: Annotated[float, Meta(ge=0, le=1)] = 0.0

    consumes = Schema((EVENT_ID, OUTCOME))
    provides = Schema((DECISION, OUTCOME))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.paths = options.path
        self._pass_through = options.pass_through
        names = [path.name for path in self.paths]
        if len(set(names)) != len(names) or len(names) > PASS_THROUGH_BIT:
            raise ConfigError(
                f"stage {name!r}: expected at most {PASS_THROUGH_BIT} paths with names of their "
                f"own, got {names}"
            )

    def connect(self, available: Schema) -> Schema:
        """Bind each path's condition to columns; return all columns that the menu reads."""
        self._conditions = [
            Condition(path.where, available, f"stage {self.name!r}: path {path.name!r}")
            for path in self.paths
        ]
        used = [column for condition in self._conditions for column in condition.columns]
        return self.consumes.merge(used)

    def open(self, events: int) -> None:
        """Allocate decisions and outcomes."""
        masks = (Column("fired", "bool"), Column("drawn", "bool"))
        self._pool = Pool(Schema((*self.provides, *masks)), events)
        self._pass_salt = salt_of(self.name)
        self._salts = [salt_of(f"{self.name}/{path.name}") for path in self.paths]

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `decision` and `outcome`; events flagged before stay so."""
        ids = batch["event_id"]
        decision, outcome, fired, drawn = self._pool.views(batch.events)
        decision.fill(0)
        fired.fill(False)
        for bit, (path, condition) in enumerate(zip(self.paths, self._conditions, strict=True)):
            passed = condition(batch)
            unscaled = passed
            if path.prescale > 1:
                sampled(ids, self._salts[bit], 1 / path.prescale, drawn)
                unscaled = drawn
            fire(passed, unscaled, bit, fired, decision)
        if self._pass_through:
            sampled(ids, self._pass_salt, self._pass_through, drawn)
            fire(drawn, drawn, PASS_THROUGH_BIT, fired, decision)
        settle(fired, batch["outcome"], decision, outcome)
        return batch.with_columns(decision=decision, outcome=outcome)

    def close(self) -> None:
        """Nothing to free."""
