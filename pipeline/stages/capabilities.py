"""Capabilities of stages: optional protocols of one to four methods each.

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
        Further columns that the kernels write, one status per event, for `check`.
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
    """A stage or monitor whose inputs depend on the available columns, such as a menu."""

    def connect(self, available: Schema) -> Schema:
        """Return the columns that it reads; ConfigError if they are not available."""


@runtime_checkable
class ProvidesFinite(Protocol):
    """A stage some of whose columns have neither NaN nor infinity for valid events, by itself.

    Attributes
    ----------
    finite_columns
        These columns, which are not checked after it.
    """

    finite_columns: Schema


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
class LoadsModels(Protocol):
    """A stage or monitor that loads models, which are checked before a run starts."""

    def models(self) -> tuple[tuple[Model, str], ...]:
        """Return each model that it loads, with the backend."""


@runtime_checkable
class SwapsModel(Protocol):
    """A stage whose model can be replaced between two batches of a run.

    Its options ``model`` and ``version`` are the model that it starts with.
    """

    def check_swap(self, model: Model) -> None:
        """Raise ModelError if a model cannot replace the stage's own."""

    def prepare(self, epoch: int, model: Model) -> None:
        """Load, check and warm up `model` for batches from `epoch` on; ModelError if that fails.

        Called from a thread while `process` runs. The model of the previous epoch is kept until
        that epoch is over.
        """

    def discard(self, epoch: int) -> None:
        """Forget the models prepared for batches from `epoch` on: their swaps were refused."""

    def activate(self, epoch: int) -> None:
        """Use the model of an epoch from now on: a prepared one, or the one from the start."""


@runtime_checkable
class TruncatesLists(Protocol):
    """A stage that truncates lists that are too long for its model."""

    def set_counter(self, counter: Array) -> None:
        """Count events with a truncated list in `counter`, uint64 (1,), from now on."""


@runtime_checkable
class HasLadder(Protocol):
    """A stage with a ladder: cheaper replacements of its model, for use under load.

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
        """Use a rung from now on; the last rung if there are fewer.

        Returns whether the rung has a model; without one the provided columns are zeros. Also
        called on stages of other segments, which are not open here.
        """

    def rung_models(self) -> dict[int, dict[str, str]]:
        """Return name, version, sha256 and backend of the models of rungs 1 and up."""


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
        """Raise ModelError if a model cannot replace the stage's own."""


@runtime_checkable
class PassesThrough(Protocol):
    """A deciding stage with pass-through: a random sample that is kept whatever it decides."""

    def pass_through(self) -> tuple[float, int]:
        """Return the share of the sample, and the salt of the hash of event ids that chooses it."""

    def disable_paths(self, columns: frozenset[str]) -> None:
        """Disable all paths that read any of these columns."""


@runtime_checkable
class Decides(Protocol):
    """A stage that decides which events are kept, as the trigger menu does."""

    def path_names(self) -> tuple[str, ...]:
        """Return the names of the paths, in the order of their bits in the column `decision`."""

    def prescales(self) -> Array:
        """Return the prescale of each decision bit, float32 (64,); 10 keeps one event in ten."""

    def menu_info(self) -> dict[str, Any]:
        """Return the configuration of the decision, with a `version` that is a hash of the rest."""


CAPABILITIES = (
    BindsInputs, ProvidesFinite, Reports, RunsModel, LoadsModels, SwapsModel, TruncatesLists,
    HasLadder, HasShadows, Decides, PassesThrough, RunsOnGpu,
)  # fmt: skip
