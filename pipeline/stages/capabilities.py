"""Capabilities of stages: optional protocols, each a few methods that a stage may have besides.

A stage has a capability if it has the methods and attributes; it need not name the protocol. The
engine asks by `isinstance`. Those of sources are in `sources.base`, those of backends and sessions
in `inference.session`; docs/reference/components.md lists all, and which component has which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array, Schema
from sluice.pipeline.inference.repository import Model


@runtime_checkable
class RunsOnGpu(Protocol):
    """A stage whose work can run on a GPU, as a step of the stage ``gpu-chain``.

    Attributes
    ----------
    consumes, provides
        Columns that the stage reads and adds, as for any stage.
    status_columns
        Columns that the kernels write besides, one value an event, from which `check` flags events.
    """

    consumes: Schema
    provides: Schema
    status_columns: Schema

    def enqueue(self, columns: Mapping[str, Any], stream: int) -> None:
        """Queue the kernels on a CUDA stream; `columns` are arrays in device memory, by name."""

    def check(self, batch: EventBatch, status: Mapping[str, Array]) -> EventBatch:
        """Return the batch with the events flagged whose status, by column name, is not zero."""


@runtime_checkable
class BindsInputs(Protocol):
    """A stage or monitor whose inputs depend on the columns there are, as a menu's do."""

    def connect(self, available: Schema) -> Schema:
        """Return the columns that it will read, or raise ConfigError."""


@runtime_checkable
class Reports(Protocol):
    """A stage that adds keys to the run report."""

    def report(self, events: int) -> dict[str, Any]:
        """Return keys and values for the report of a run of `events` events."""


@runtime_checkable
class RunsModel(Protocol):
    """A stage that runs a model of the repository.

    Its options have a key ``backend``, which ``--backend`` and `sluice tune` set.
    """

    def model_info(self) -> dict[str, str]:
        """Return ``name``, ``version``, ``sha256`` and ``backend`` of the model."""

    def backends(self) -> tuple[str, ...]:
        """Return the backends that can run its model, without a device; empty for any."""


@runtime_checkable
class SwapsModel(Protocol):
    """A stage whose model can be replaced between two batches of a run.

    Its options ``model`` and ``version`` name the model that it starts with.
    """

    def check_swap(self, model: Model) -> None:
        """Refuse a model that cannot replace the stage's own: ModelError."""

    def prepare(self, epoch: int, model: Model) -> None:
        """Load, check and warm `model` for batches from `epoch` on, or raise ModelError.

        Called from a thread while `process` runs. The model of the previous epoch is kept until
        that epoch is over.
        """

    def activate(self, epoch: int) -> None:
        """Process with the model of an epoch: one that was prepared, or the one at the start."""


@runtime_checkable
class TruncatesLists(Protocol):
    """A stage that truncates lists which are longer than its model takes."""

    def set_counter(self, counter: Array) -> None:
        """Count events that had a list truncated in `counter`, uint64 (1,), from now on."""


@runtime_checkable
class HasLadder(Protocol):
    """A stage with a ladder: faster models, or none, for when there is no time for its own.

    Attributes
    ----------
    name
        Name of the stage in the graph.
    rungs
        Number of rungs, the stage's own model among them.
    """

    name: str
    rungs: int

    def set_rung(self, rung: int) -> bool:
        """Process on this rung from now on, on the last where it is beyond.

        Returns whether that rung computes the columns; where it does not they are zeros. Also
        called on stages that are not open, because other workers run them.
        """

    def rung_models(self) -> dict[int, dict[str, str]]:
        """Return what `RunsModel.model_info` does of each lower rung's model, by rung."""


@runtime_checkable
class HasShadows(Protocol):
    """A stage whose model may have shadows: models that process a sample and decide nothing.

    Attributes
    ----------
    shadows
        Labels of the shadow models, ``name`` or ``name@version``.
    shadow_sample
        Fraction of the decided events that shadows process, chosen by a hash of the event id.
    """

    shadows: tuple[str, ...]
    shadow_sample: float

    def check_swap(self, model: Model) -> None:
        """Refuse a model that cannot replace the stage's own: ModelError."""


@runtime_checkable
class PassesThrough(Protocol):
    """A deciding stage that keeps a random share of the events whatever it decides."""

    def pass_through(self) -> tuple[float, int]:
        """Return the share, and the salt of the hash of the event id that chooses the events."""

    def disable_paths(self, columns: frozenset[str]) -> None:
        """Let no path fire from now on that reads any of these columns."""


@runtime_checkable
class Decides(Protocol):
    """A stage that decides which events are kept, as the trigger menu does."""

    def path_names(self) -> tuple[str, ...]:
        """Return the names of the paths, in the order of their bits in the column `decision`."""

    def prescales(self) -> Array:
        """Return the prescale of each bit of a decision, float32 (64,): one in so many is kept."""

    def menu_info(self) -> dict[str, Any]:
        """Return what it decides by, with a `version` that changes whenever the rest does."""


CAPABILITIES = (
    BindsInputs, Reports, RunsModel, SwapsModel, TruncatesLists, HasLadder, HasShadows,
    Decides, PassesThrough, RunsOnGpu,
)  # fmt: skip
