"""The antihydrogen detector: strip bits to images, bars, and the traditional vertex finding."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

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
    """1,430 strip bits to two images of two layers; the outer φ has the inner one's pitch."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Nothing to choose."""

    consumes = Schema((STRIPS,))
    provides = Schema((Z, PHI, LAYERS))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate images, layers and the status of each event."""
        self._pool = OutputBuffers(Schema((*self.provides, Column("status", "uint8"))), events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `z`, `phi` and `layers`, bad events flagged invalid."""
        z, phi, layers, status = self._pool.arrays(batch.events)
        bad = strips.to_images(batch["strips"], z, phi, layers, status)
        batch = batch.with_columns(z=z, phi=phi, layers=layers)
        if bad:
            rows = np.flatnonzero(status == strips.PADDING)
            batch = batch.flag(self.name, "bits behind the last strip are set", rows)
        return batch

    def close(self) -> None:
        """Nothing to free."""


class Vertex:
    """The traditional way: where two straight tracks pass each other most closely."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """What counts as a vertex."""

        #: Greatest distance of the two tracks, mm.
        most_apart: Annotated[float, Meta(gt=0)] = vertex.MOST_APART_MM

    consumes = Schema((STRIPS,))
    provides = Schema((VERTEX, RADIUS))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._most_apart = options.most_apart

    def open(self, events: int) -> None:
        """Allocate the vertices."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `vertex` and `vertex_r`, -1 where there is none."""
        where, radius = self._pool.arrays(batch.events)
        vertex.find_vertices(batch["strips"], self._most_apart, where, radius)
        return batch.with_columns(vertex=where, vertex_r=radius)

    def close(self) -> None:
        """Nothing to free."""


class Hodoscope:
    """Counts of 64 bars' clocks to which have fired, and how long after the first."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Nothing to choose."""

    consumes = Schema((BARS,))
    provides = Schema((HODOSCOPE,))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self, events: int) -> None:
        """Allocate what is seen."""
        self._pool = OutputBuffers(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `hodoscope`."""
        (seen,) = self._pool.arrays(batch.events)
        hodoscope.time_since_first_hit(batch["bars"], seen)
        return batch.with_columns(hodoscope=seen)

    def close(self) -> None:
        """Nothing to free."""


STAGES = {"unpack": Unpack, "hodoscope": Hodoscope, "vertex": Vertex}
