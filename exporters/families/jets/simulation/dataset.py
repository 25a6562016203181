"""The data set of jets: chunks in files, each made by itself, in any order, by any process."""

from __future__ import annotations

from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from sluice.exporters.training.parallel import process_pool, progress

from .jets import Sample, jets


class Chunk(NamedTuple):
    """Part `number` of a sample; what is in it depends on this and the seed alone."""

    sample: Sample
    number: int
    jets: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.sample.name}-{self.number:04d}.npz"

    def seed(self, seed: int) -> int:
        """Seed of the chunk's random streams, from that of the data set."""
        key = (seed, self.sample.mass, self.sample.hardness, self.number)
        return int(np.random.SeedSequence(key).generate_state(1)[0])


def produce(folder: Path, chunks: list[Chunk], seed: int, workers: int = 1) -> None:
    """Make the chunks that are not in `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [chunk for chunk in chunks if not (folder / chunk.name).exists()]
    if not missing:
        return
    with process_pool(workers) as pool, progress() as bar:
        task = bar.add_task("jets", total=len(chunks), completed=len(chunks) - len(missing))
        for made in as_completed([pool.submit(_make, folder, one, seed) for one in missing]):
            made.result()
            bar.advance(task)


def _make(folder: Path, chunk: Chunk, seed: int) -> None:
    path = folder / chunk.name
    # Written under another name and renamed, so that a file with this name is complete.
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        np.savez(file, **cast(Any, jets(chunk.sample, chunk.jets, chunk.seed(seed))))
    aside.replace(path)
