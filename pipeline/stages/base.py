"""The protocols of stages, which transform batches, and of monitors, which observe a sample.

A stage is a class with `Options` (a msgspec Struct), made as ``cls(name, options)``. Registered
under the entry-point group ``sluice.stages``, a graph file can use it; a monitor likewise under
``sluice.monitors``. Optional protocols of stages are in `capabilities`.
"""

from __future__ import annotations

from typing import Protocol

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array, Schema


class Stage(Protocol):
    """A transformation of batches.

    Attributes
    ----------
    name
        Name of the stage in the graph.
    consumes, provides
        Columns that it reads and adds, with dtype, item shape and unit.
    """

    name: str
    consumes: Schema
    provides: Schema

    def open(self, events: int) -> None:
        """Load and warm up models and buffers for batches of up to `events` events."""

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the provided columns added.

        If it raises, the batch is processed again in parts, and only the events that cause the
        exception count as failed.
        """

    def close(self) -> None:
        """Release what `open` allocated."""


class Monitor(Protocol):
    """Computes one number of each event of a sample, for a histogram; decides nothing.

    It runs in a thread beside the stages, on copies of the columns.

    Attributes
    ----------
    name
        Name of the monitor in the graph and in the report.
    consumes
        Columns that it reads.
    sample
        Fraction of the events that it observes, chosen by a hash of the event id. Under load the
        fraction is smaller: a sample that would have to wait is dropped and counted.
    metric, labels
        Name and labels of the Prometheus histogram of its values.
    """

    name: str
    consumes: Schema
    sample: float
    metric: str
    labels: dict[str, str]

    def open(self, events: int) -> None:
        """Load and warm up models and buffers."""

    def observe(self, batch: EventBatch) -> Array:
        """Return one value per event, float32 (N,); NaN if the quantity is not defined."""

    def close(self) -> None:
        """Release what `open` allocated."""
