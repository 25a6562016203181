"""The trigger menu: paths with conditions, prescales, and pass-through, all deterministic.

Prescale and pass-through come from a hash of the event id, so a decision does not depend on
which worker judged the event, nor on what came before it.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from sluice.kernels.hashing import salt, sample_mask
from sluice.kernels.menu import decide
from sluice.pipeline.core import hugepages
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Array, Schema

from .menu_expression import MenuExpression

#: The decision bit of events that are kept whatever the paths say.
PASS_THROUGH_BIT = 63


class TriggerPath(Struct, frozen=True, forbid_unknown_fields=True):
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

        path: tuple[TriggerPath, ...]
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

    def pass_through(self) -> tuple[float, int]:
        """Return the pass-through and the salt that draws it; see `ProtectsPassThrough`."""
        return self._pass_through, salt(self.name)

    def disable_paths(self, columns: frozenset[str]) -> None:
        """Let no path fire that reads any of these columns; see `ProtectsPassThrough`."""
        self._muted = [
            line
            for line, condition in enumerate(self._conditions)
            if any(column.name in columns for column in condition.columns)
        ]

    def prescales(self) -> Array:
        """Return what each bit of a decision stands for, float32 (64,): one in this many."""
        scales = np.ones(64, np.float32)
        scales[: len(self.paths)] = [path.prescale for path in self.paths]
        if self._pass_through:
            scales[PASS_THROUGH_BIT] = 1 / self._pass_through
        return scales

    def menu_info(self) -> dict[str, Any]:
        """Return the menu as the begin-of-run record keeps it; its version hashes all the rest."""
        menu = {
            "stage": self.name,
            "pass_through": self._pass_through,
            "paths": [msgspec.to_builtins(path) for path in self.paths],
        }
        version = hashlib.sha256(msgspec.json.encode(menu, order="sorted")).hexdigest()
        return {"version": version[:16], **menu}

    def connect(self, available: Schema) -> Schema:
        """Bind each path's condition to columns; return all columns that the menu reads."""
        self._conditions = [
            MenuExpression(path.where, available, f"stage {self.name!r}: path {path.name!r}")
            for path in self.paths
        ]
        used = [column for condition in self._conditions for column in condition.columns]
        return self.consumes.merge(used)

    def open(self, events: int) -> None:
        """Allocate decisions, outcomes and the masks of the paths, pass-through last."""
        self._pool = OutputBuffers(self.provides, events)
        self._muted = []
        lines = [(path.name, path.prescale) for path in self.paths]
        self._draws = [
            (line, salt(f"{self.name}/{name}"), 1 / prescale)
            for line, (name, prescale) in enumerate(lines)
            if prescale > 1
        ]
        self._draws.append((len(lines), salt(self.name), self._pass_through))
        self._bits = np.array([*range(len(lines)), PASS_THROUGH_BIT], np.uint64)
        self._room = hugepages.allocate(2 * len(self._bits) * events, np.bool_)
        self._masks = np.ones((2, len(self._bits), 0), np.bool_)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `decision` and `outcome`; events flagged before stay so."""
        decision, outcome = self._pool.arrays(batch.events)
        passed, unscaled = self._masks_for(batch.events)
        for line, condition in enumerate(self._conditions):
            condition(batch, passed[line])
        passed[self._muted] = False
        for line, salted, fraction in self._draws:
            sample_mask(batch["event_id"], salted, fraction, unscaled[line])
        passed[-1] = unscaled[-1]  # who is not drawn for pass-through has not fired it either
        decide(passed, unscaled, self._bits, batch["outcome"], decision, outcome)
        return batch.with_columns(decision=decision, outcome=outcome)

    def _masks_for(self, events: int) -> Array:
        """Return bool (2, paths, events): who fired a path, whom its prescale has drawn."""
        if self._masks.shape[2] != events:
            shape = (2, len(self._bits), events)
            if len(self._room) < math.prod(shape):
                self._room = np.empty(math.prod(shape), np.bool_)
            self._masks = self._room[: math.prod(shape)].reshape(shape)
            self._masks.fill(True)
        return self._masks

    def close(self) -> None:
        """Nothing to free."""
