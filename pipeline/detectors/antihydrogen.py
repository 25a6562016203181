"""The antihydrogen detector: strip bits to images, bars, and the traditional vertex finding."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct, field

from sluice.kernels.antihydrogen import hodoscope, strips, vertex
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.schema import Column, Schema

STRIPS = Column("strips", "uint8", (strips.BYTES,), "bits")
Z = Column("z", "float32", (2, strips.Z))
PHI = Column("phi", "float32", (2, strips.PHI))
LAYERS = Column("layers", "uint8")
VERTEX = Column("vertex", "float32", (3,), "mm")
RADIUS = Column("vertex_r", "float32", unit="mm")
BARS = Column("bars", "uint16", (hodoscope.BARS,), "0.1 ns")
HODOSCOPE = Column("hodoscope", "float32", (2, hodoscope.BARS))


class Unpack:
    """Unpacks 1,430 strip bits to two images of two layers, all φ with the inner layer's pitch."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    consumes = Schema((STRIPS,))
    provides = Schema((Z, PHI, LAYERS))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate images, layers and the status of each event."""
        self._pool = OutputBuffers(Schema((*self.provides, Column("status", "uint8"))), events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `z`, `phi` and `layers`, invalid events flagged."""
        z, phi, layers, status = self._pool.arrays(batch.events)
        bad = strips.to_images(batch["strips"], z, phi, layers, status)
        batch = batch.with_columns(z=z, phi=phi, layers=layers)
        if bad:
            rows = np.flatnonzero(status == strips.PADDING)
            batch = batch.flag(self.name, "bits behind the last strip are set", rows)
        return batch

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Vertex:
    """Finds the vertex by the closest approach of two straight tracks, without a model."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Criteria of a vertex."""

        #: Maximum distance between the two tracks, mm.
        max_distance_mm: Annotated[float, Meta(gt=0)] = field(
            default=vertex.MAX_DISTANCE_MM, name="most_apart"
        )

    consumes = Schema((STRIPS,))
    provides = Schema((VERTEX, RADIUS))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._max_distance_mm = options.max_distance_mm

    def open(self, events: int) -> None:
        """Allocate the vertices."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `vertex` and `vertex_r`, -1 for events without a vertex."""
        where, radius = self._pool.arrays(batch.events)
        vertex.find_vertices(batch["strips"], self._max_distance_mm, where, radius)
        return batch.with_columns(vertex=where, vertex_r=radius)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Hodoscope:
    """Computes which of 64 bars fired, and their times after the first hit, from clock counts."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    consumes = Schema((BARS,))
    provides = Schema((HODOSCOPE,))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate the features."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `hodoscope`."""
        (features,) = self._pool.arrays(batch.events)
        hodoscope.time_since_first_hit(batch["bars"], features)
        return batch.with_columns(hodoscope=features)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


STAGES = {"unpack": Unpack, "hodoscope": Hodoscope, "vertex": Vertex}
