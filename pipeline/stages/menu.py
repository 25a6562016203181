"""The trigger menu: paths with conditions, prescales, and pass-through, all deterministic.

Prescales and pass-through choose events by a hash of the event id, so a decision depends neither
on the worker that took it nor on earlier events.
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

#: Bit of the decision for events that are kept by pass-through.
PASS_THROUGH_BIT = 63


class TriggerPath(Struct, frozen=True, forbid_unknown_fields=True):
    """One path of the menu."""

    name: str
    #: Condition: comparisons of columns with numbers, joined by and, or, not.
    where: str
    #: Prescale: 10 keeps one in ten of the events that fire the path.
    prescale: Annotated[float, Meta(ge=1)] = 1.0


class Menu:
    """Adds `decision` (one bit per path) and `outcome` (accepted, prescaled or rejected)."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Paths, and the fraction of events that pass through."""

        #: Paths, in the order of their bits.
        path: tuple[TriggerPath, ...]
        #: Fraction of the events that is kept whatever the paths decide.
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
                f"stage {name!r}: expected at most {PASS_THROUGH_BIT} paths with different names, "
                f"got {names}"
            )

    def pass_through(self) -> tuple[float, int]:
        """Return the share of pass-through, and the salt of the hash that chooses its events."""
        return self._pass_through, salt(self.name)

    def disable_paths(self, columns: frozenset[str]) -> None:
        """Disable all paths that read any of these columns."""
        self._disabled = [
            line
            for line, condition in enumerate(self._conditions)
            if any(column.name in columns for column in condition.columns)
        ]

    def path_names(self) -> tuple[str, ...]:
        """Return the names of the paths, in the order of their bits."""
        return tuple(path.name for path in self.paths)

    def prescales(self) -> Array:
        """Return the prescale of each decision bit, float32 (64,); 10 keeps one event in ten."""
        scales = np.ones(64, np.float32)
        scales[: len(self.paths)] = [path.prescale for path in self.paths]
        if self._pass_through:
            scales[PASS_THROUGH_BIT] = 1 / self._pass_through
        return scales

    def menu_info(self) -> dict[str, Any]:
        """Return the menu for the begin-of-run record; its version is a hash of the rest."""
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
        self._disabled = []
        lines = [(path.name, path.prescale) for path in self.paths]
        self._draws = [
            (line, salt(f"{self.name}/{name}"), 1 / prescale)
            for line, (name, prescale) in enumerate(lines)
            if prescale > 1
        ]
        self._draws.append((len(lines), salt(self.name), self._pass_through))
        self._bits = np.array([*range(len(lines)), PASS_THROUGH_BIT], np.uint64)
        self._mask_bytes = hugepages.allocate(2 * len(self._bits) * events, np.bool_)
        self._masks = np.ones((2, len(self._bits), 0), np.bool_)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `decision` and `outcome`; invalid events stay invalid."""
        decision, outcome = self._pool.arrays(batch.events)
        passed, unscaled = self._masks_for(batch.events)
        for line, condition in enumerate(self._conditions):
            condition(batch, passed[line])
        passed[self._disabled] = False
        for line, salted, fraction in self._draws:
            sample_mask(batch["event_id"], salted, fraction, unscaled[line])
        passed[-1] = unscaled[-1]  # an event not chosen for pass-through has not fired it either
        decide(passed, unscaled, self._bits, batch["outcome"], decision, outcome)
        return batch.with_columns(decision=decision, outcome=outcome)

    def _masks_for(self, events: int) -> Array:
        """Return bool (2, paths, events): events that fire a path, and those after its prescale."""
        if self._masks.shape[2] != events:
            shape = (2, len(self._bits), events)
            if len(self._mask_bytes) < math.prod(shape):
                self._mask_bytes = np.empty(math.prod(shape), np.bool_)
            self._masks = self._mask_bytes[: math.prod(shape)].reshape(shape)
            self._masks.fill(True)
        return self._masks

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
