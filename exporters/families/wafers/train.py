"""How the wafer models are trained: in which order, on what, and in how many processes.

Encoders start on the cross-entropy; a surrogate of the Earth mover's distance (EMD) learns from
what they make of wafers and guides the encoders that ship; the surrogates that ship learn from
those too, but not from the encoders of every loss, which are trained to be compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sluice.exporters.families.base import TrainOptions
from sluice.exporters.training import provenance, recipes
from sluice.exporters.training.parallel import Scores, run_all, worker_count
from sluice.exporters.training.provenance import Provenance
from sluice.pipeline.inference.manifest import Training

from . import measured_files
from .coders import nested
from .coders import train as coders
from .recipe import Recipe, load
from .surrogates import train as surrogates
from .training_run import TrainingRun, split

#: Digests of the measured wafers that were trained on; an evaluation leaves them out.
SEEN = "seen.npz"


def train(options: TrainOptions) -> Scores:
    """Train all nets of the family; return validation losses by the names of their files."""
    recipe = load(options.recipe, quick=options.quick)
    seed = recipe.seed if options.seed is None else options.seed
    run = TrainingRun(recipe, seed, options.out, options.resume)
    _claim(run)
    losses: Scores = {}
    with worker_count(recipe.workers) as pool:
        for stage in (
            coders.pretraining_tasks,
            surrogates.train_guide,
            coders.shipped_tasks,
            coders.study_tasks,
            surrogates.train_final,
            nested.train,
        ):
            losses |= run_all(run, stage(run), pool)
    return losses


def _claim(run: TrainingRun) -> None:
    held = split(run)
    training = Training(
        seed=run.seed,
        dataset="simulated and measured wafers",
        dataset_sha256=held.train.digest,
        events=len(held.train),
        commit=provenance.code_version(),
        recipe_sha256=recipes.digest(run.recipe),
    )
    provenance.claim_folder(run.folder, Provenance(training, run.recipe), resume=run.resume)
    learnt = [
        measured_files.training_rows(name, label) for name, label in measured_files.MEASURED.items()
    ]
    seen = [measured_files.image_digests(part.charge) for part in learnt if part is not None]
    np.savez(run.folder / SEEN, seen=np.sort(np.concatenate([*seen, np.empty(0, np.uint64)])))


def read_provenance(checkpoints: Path) -> Provenance[Recipe]:
    """Return the provenance that the training wrote beside its checkpoints."""
    return provenance.read(checkpoints, Provenance[Recipe], "wafers")
