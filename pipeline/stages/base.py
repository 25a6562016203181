"""Stages transform batches; monitors watch a sample of them. Both are declared sparsely.

A stage is a class with `Options` (a msgspec Struct), made as ``cls(name, options)``; register it
under the entry-point group ``sluice.stages`` and a graph file can use it. Monitors likewise,
under ``sluice.monitors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array, Schema
from sluice.pipeline.inference.repository import Model


class Stage(Protocol):
    """A transformation of batches.

    Attributes
    ----------
    name
        Its name in the graph.
    consumes, provides
        The columns it reads and adds, with dtype, item shape and unit.
    """

    name: str
    consumes: Schema
    provides: Schema

    def open(self, events: int) -> None:
        """Load and warm what it needs, for batches of up to `events` events."""

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the provided columns added.

        An exception condemns the events that cause it, not the batch: the chain finds them.
        """

    def close(self) -> None:
        """Free what `open` took."""


@runtime_checkable
class RunsOnGpu(Protocol):
    """A stage whose work a GPU can do, as a step of the stage ``gpu-chain``.

    Attributes
    ----------
    consumes, provides
        As of any stage.
    verdicts
        Columns that it writes beside those that it provides, for `judge`.
    """

    consumes: Schema
    provides: Schema
    status_columns: Schema

    def enqueue(self, columns: Mapping[str, Any], stream: int) -> None:
        """Put its kernels into a CUDA stream; `columns` are arrays of the device."""

    def judge(self, batch: EventBatch, verdicts: Mapping[str, Array]) -> EventBatch:
        """Return the batch with the events flagged that its verdicts condemn."""


@runtime_checkable
class BindsInputs(Protocol):
    """A stage whose inputs depend on what is there, as a menu's expressions do."""

    def connect(self, available: Schema) -> Schema:
        """Return the columns it will read, or raise ConfigError."""


@runtime_checkable
class RunsModel(Protocol):
    """A stage that runs a model, for reports and metrics."""

    def model_info(self) -> dict[str, str]:
        """Return name, version, sha256 and backend."""


@runtime_checkable
class SwapsModel(Protocol):
    """A stage whose model may be another from some batch on, while the run goes on.

    Its options ``model`` and ``version`` name the model that it begins with.
    """

    def check_swap(self, model: Model) -> None:
        """Refuse a model that cannot stand in for the stage's own: ModelError."""

    def prepare(self, epoch: int, model: Model) -> None:
        """Load, prove and warm `model` for batches from `epoch` on, or raise ModelError.

        Called from a thread while `process` runs. Until the epoch before is over, both are kept.
        """

    def activate(self, epoch: int) -> None:
        """Judge with the model of an epoch that was prepared, or that the stage began with."""


@runtime_checkable
class TruncatesLists(Protocol):
    """A stage that may cut lists which are longer than its model takes."""

    def set_counter(self, counter: Array) -> None:
        """Count in `counter`, uint64 (1,), from now on the events that had a list cut."""


@runtime_checkable
class HasLadder(Protocol):
    """A stage that has models for the lower rungs of its ladder."""

    def rung_models(self) -> dict[int, dict[str, str]]:
        """Return rung to name, version, sha256 and backend; rungs without a model left out."""


@runtime_checkable
class HasShadows(Protocol):
    """A stage whose model may have shadows: models that judge a sample too and decide nothing.

    Attributes
    ----------
    shadows
        Their labels, ``name`` or ``name@version``.
    shadow_sample
        Fraction of the judged events that they see, by a hash of the event id.
    """

    shadows: tuple[str, ...]
    shadow_sample: float

    def check_swap(self, model: Model) -> None:
        """Refuse a model that cannot stand in for the stage's own: ModelError."""


@runtime_checkable
class Steps(Protocol):
    """A stage with a ladder: what to do instead while there is no time for its model.

    Attributes
    ----------
    name
        Its name in the graph.
    rungs
        How many there are, the model itself among them.
    """

    name: str
    rungs: int

    def step(self, rung: int) -> bool:
        """Judge on a rung from now on, the last where it is beyond; False if nothing is judged.

        The columns are zeros then. Also asked where the stage is not open: other workers run it.
        """


@runtime_checkable
class PassesThrough(Protocol):
    """A stage that decides, and that keeps a random share of the events in any case."""

    def pass_through(self) -> tuple[float, int]:
        """Return the share, and the salt of the hash of the event id that draws it."""

    def disable_paths(self, columns: frozenset[str]) -> None:
        """Let nothing fire from now on that reads any of these columns."""


@runtime_checkable
class Decides(Protocol):
    """A stage that decides, as the trigger menu does; for decision records."""

    def prescales(self) -> Array:
        """Return what each bit of a decision stands for, float32 (64,): one in this many."""

    def menu_info(self) -> dict[str, Any]:
        """Return what it decides by, with a `version` that changes whenever that does."""


class Monitor(Protocol):
    """Watches a sample of events and yields numbers for a histogram; decides nothing.

    It runs in a thread beside the stages and gets copies.

    Attributes
    ----------
    name
        Its name in the graph and in the report.
    consumes
        The columns it reads.
    sample
        The fraction of events it sees, chosen by a hash of the event id. Under load it may see
        fewer: a sample that would have to wait is dropped, counted.
    metric, labels
        The Prometheus histogram that shows its values.
    """

    name: str
    consumes: Schema
    sample: float
    metric: str
    labels: dict[str, str]

    def open(self, events: int) -> None:
        """Load and warm what it needs."""

    def observe(self, batch: EventBatch) -> Array:
        """Return one float32 an event; NaN where the quantity is not defined."""

    def close(self) -> None:
        """Free what `open` took."""
