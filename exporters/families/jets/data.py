"""Jets as the nets see them: observables and what goes with them, from the data set's chunks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sluice.exporters.families.jets.simulation.dataset import Chunk
from sluice.exporters.families.jets.simulation.jets import Sample
from sluice.kernels.jets import observables as kernels

Array = NDArray[Any]

#: Resonance mass of the blocks in turn, GeV; 100 comes more often than the others.
TURNS = (100, 60, 150, 100, 80, 175, 100, 125, 200, 100, 225, 250, 100)
#: Resonance mass that parametrised nets are not trained on, GeV.
HELD_OUT = 125
#: Smallest transverse momentum of soft and of hard samples, and the mass above which a resonance
#: decays within the jet in hard samples only, GeV.
SOFT, HARD, HEAVY = 400, 600, 200
#: The background is hard in one of this many blocks.
_HARD_EVERY = 4

#: Shares of each chunk to train and to validate on; the rest is for tests.
TRAIN, VALID = 0.4, 0.1


class Jets(msgspec.Struct, frozen=True):
    """Jets: `x` (N, 10) observables; (N,) `mass` and `pt` (GeV, trimmed), `resonance` (GeV, 0 for
    QCD) and `hardness` (GeV) of the sample.
    """

    x: Array
    mass: Array
    pt: Array
    resonance: Array
    hardness: Array

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: Any) -> Jets:
        """Return some of the jets."""
        return Jets(*(getattr(self, name)[rows] for name in self.__struct_fields__))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all values."""
        hashed = hashlib.sha256()
        for name in self.__struct_fields__:
            hashed.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return hashed.hexdigest()


def block(number: int, size: int) -> tuple[Chunk, Chunk]:
    """Return the samples of block `number` of the data set: a chunk of QCD, one of signal.

    Parameters
    ----------
    number
        Number of the block, from 0.
    size
        Jets of each chunk.
    """
    seen = Counter(chunk for before in range(number) for chunk in _samples(before))
    first, second = _samples(number)
    return Chunk(first, seen[first], size), Chunk(second, seen[second], size)


def _samples(number: int) -> tuple[Sample, Sample]:
    mass = TURNS[number % len(TURNS)]
    hard = number % _HARD_EVERY == _HARD_EVERY - 1
    return Sample(0, HARD if hard else SOFT), Sample(mass, HARD if mass >= HEAVY else SOFT)


def measure(columns: dict[str, Array]) -> tuple[Array, Array]:
    """Return (N, 10) observables and (N, 4) kinematics of jets with ragged candidates."""
    events = len(columns["offsets"]) - 1
    observables = np.empty((events, len(kernels.OBSERVABLES)), np.float32)
    kinematics, status = np.empty((events, 4), np.float32), np.empty(events, np.uint8)
    offsets, pt, eta, phi = (columns[name] for name in ("offsets", "pt", "eta", "phi"))
    kernels.measure_substructure(offsets, pt, eta, phi, observables, kinematics, status)
    return observables, kinematics


def read(folder: Path, chunks: Sequence[Chunk]) -> list[Jets]:
    """Return the jets of each chunk in `folder`."""
    found = []
    for chunk in chunks:
        with np.load(folder / chunk.name) as file:
            observables, kinematics = measure(dict(file))
        count = len(observables)
        found.append(
            Jets(
                observables,
                np.ascontiguousarray(kinematics[:, 3]),
                np.ascontiguousarray(kinematics[:, 0]),
                np.full(count, chunk.sample.mass, np.float32),
                np.full(count, chunk.sample.hardness, np.float32),
            )
        )
    return found


def parted(chunks: Sequence[Jets]) -> dict[str, Jets]:
    """Split the jets into ``train``, ``valid`` and ``test``: the same share of each chunk."""
    parts: dict[str, list[Jets]] = {"train": [], "valid": [], "test": []}
    for one in chunks:
        first, second = int(TRAIN * len(one)), int((TRAIN + VALID) * len(one))
        for name, rows in (
            ("train", slice(0, first)),
            ("valid", slice(first, second)),
            ("test", slice(second, None)),
        ):
            parts[name].append(one.part(rows))
    return {name: concatenate(found) for name, found in parts.items()}


def concatenate(parts: Sequence[Jets]) -> Jets:
    """Return all jets of all parts."""
    names = Jets.__struct_fields__
    return Jets(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
