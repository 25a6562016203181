"""Jets: substructure of the hardest jet of each event, from ragged particle-flow candidates."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from sluice.kernels.jets import observables as jets
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.ragged import Ragged, offsets_of
from sluice.pipeline.core.schema import OUTCOME, Array, Column, Schema

PT = Column("pt", "float32", (None,), "GeV")
ETA = Column("eta", "float32", (None,))
PHI = Column("phi", "float32", (None,))
#: Weight of each candidate from pile-up subtraction; read if the source has it.
WEIGHT = Column("weight", "float32", (None,))
OBSERVED = Column("observables", "float32", (len(jets.OBSERVABLES),), labels=jets.OBSERVABLES)
KINEMATICS = Column(
    "jet", "float32", (4,), "GeV; angles in rad", labels=("pt", "eta", "phi", "mass")
)

_REASONS = {jets.NOT_FINITE: "candidate is not finite", jets.NEGATIVE: "candidate's pt is negative"}


class Substructure:
    """Finds and trims the hardest large-radius jet of each event, and measures its substructure.

    An event without candidates has zeros.
    """

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """No options: the models are trained on jets that were found and trimmed this way."""

    consumes = Schema((PT, ETA, PHI, OUTCOME))
    provides = Schema((OBSERVED, KINEMATICS))

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._weighted = False

    def connect(self, available: Schema) -> Schema:
        """Return the inputs, with the weights if the source has them."""
        self._weighted = WEIGHT.name in available
        return self.consumes.merge((WEIGHT,)) if self._weighted else self.consumes

    def open(self, events: int) -> None:
        """Allocate the observables and the status of each event."""
        self._pool = OutputBuffers(Schema((*self.provides, Column("status", "uint8"))), events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `observables` and `jet`, invalid events flagged."""
        observables, kinematics, status = self._pool.arrays(batch.events)
        names = [PT.name, ETA.name, PHI.name, *([WEIGHT.name] if self._weighted else [])]
        lists = [batch.ragged(name) for name in names]
        counts = [column.counts for column in lists]
        uneven = np.any([count != counts[0] for count in counts[1:]], axis=0)
        if uneven.any():
            lists = [_without_items(column, uneven) for column in lists]
        offsets, pt, eta, phi = _flat(lists)
        jets.measure_substructure(offsets, pt, eta, phi, observables, kinematics, status)
        batch = batch.with_columns(observables=observables, jet=kinematics)
        batch = batch.flag(self.name, "candidates' lists differ in length", np.flatnonzero(uneven))
        if status.any():
            for code, reason in _REASONS.items():
                batch = batch.flag(self.name, reason, np.flatnonzero(status == code))
        return batch

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def _without_items(lists: Ragged, rows: Array) -> Ragged:
    """Return the lists with those at `rows`, bool (N,), emptied."""
    counts = np.where(rows, 0, lists.counts)
    kept = np.repeat(~rows, lists.counts)
    return Ragged.from_counts(lists.items[kept], counts)


def _flat(lists: list[Ragged]) -> tuple[Array, Array, Array, Array]:
    """Return offsets, momenta, pseudorapidities and azimuths, without candidates of weight 0."""
    offsets = lists[0].offsets - lists[0].offsets[0]
    pt, eta, phi, *weight = (column.items for column in lists)
    if weight:
        kept = weight[0] != 0
        pt, eta, phi = (pt * weight[0])[kept], eta[kept], phi[kept]
        offsets = offsets_of(kept)[offsets]
    return offsets, pt, eta, phi


STAGES = {"observe": Substructure}
