"""Export of the antihydrogen models into the repository: columns, golden inputs, card."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx import Export, serialise, write
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.conversion.quantize import write_variants
from sluice.exporters.evaluation.classifier import mean_and_spread
from sluice.exporters.training.provenance import Provenance
from sluice.kernels.antihydrogen.strips import PHI, Z
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.manifest import (
    Manifest,
    ModelCard,
    Preprocessing,
    PublishedResult,
    Tensor,
)

from . import data, evaluate, metrics
from .data import Annihilations
from .model import TwoPaths
from .recipe import Net, Recipe
from .train import build, read_provenance

VERSION = 1
#: The net that ships, is compared with the published numbers, and has variants.
MAIN = "antihydrogen"
_GOLDEN, _CALIBRATION = 64, 512

INPUTS = (Tensor("z", "float32", (2, Z)), Tensor("phi", "float32", (2, PHI)))
OUTPUT = Tensor("wall", "float32")

CARD = ModelCard(
    reference="P. Sadowski et al., J. Phys. Commun. 1 (2017) 025001",
    published=(
        PublishedResult("auc_vertex", 0.87, "events with a vertex; vertex finding alone has 0.76"),
        PublishedResult("auc_without", 0.78, "events with hits in both layers and no vertex"),
        PublishedResult("auc_two_layers", 0.82, "all events with hits in both layers"),
    ),
    shortcomings=(
        "Trained and measured on a toy, tuned by hand to the published coverage; the published "
        "numbers are of the experiment's own simulation.",
        "The toy's field is uniform, its material is two thin cylinders, and its strips do not "
        "share charge as the detector's do.",
        "On the experiment's simulated events it does worse than on the toy's: the page tells.",
    ),
)
_SAYS = {
    True: "Probability that antihydrogen annihilated on the wall. Two paths of 1-D convolutions, "
    "trained on events shifted along z.",
    False: "As `antihydrogen`, trained without shifts.",
}


def export(checkpoints: Path, root: Path) -> list[Path]:
    """Write the trained models in `checkpoints` into the repository `root`, with their metrics.

    Raises
    ------
    ConfigError
        If a checkpoint is missing or of another shape than the recipe's nets.
    ModelError
        If a model computes something else in ONNX Runtime than in torch.
    """
    note = read_provenance(checkpoints)
    tested = data.simulated(evaluate.EVENTS, evaluate.SEED)
    golden = _golden()
    folders = []
    for name, net in note.recipe.nets.items():
        modules = [_load(checkpoints / f"{name}-{k}.pt", net) for k in range(net.seeds)]
        trainings = mean_and_spread([_measured(module, tested) for module in modules])
        manifest = _manifest(note, name, net, trainings | {"seeds": float(net.seeds)})
        one = Export(modules[0], manifest, golden)
        model, measure = serialise(one), partial(evaluate.areas, sample=tested)
        folders.append(write(one, model, measure(runner(model)), root))
        if name == MAIN:
            folders += write_variants(one, model, _calibration(), measure, root)
    return folders


def _manifest(
    note: Provenance[Recipe], name: str, net: Net, trainings: dict[str, float]
) -> Manifest:
    return Manifest(
        name=name,
        version=VERSION,
        family="antihydrogen",
        description=_SAYS[net.shifted] + (" Half the width." if name.endswith("-half") else ""),
        sha256="",
        inputs=INPUTS,
        outputs=(OUTPUT,),
        preprocessing=Preprocessing("strips.images"),
        training=note.training,
        trainings=trainings,
        card=CARD,
    )


def _load(path: Path, net: Net) -> TwoPaths:
    module = build(net)
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(
            f"checkpoint {path} is missing", "`sluice train antihydrogen` writes it"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: not of the recipe's net: {error}") from error
    return module.eval()


def _measured(module: TwoPaths, sample: Annihilations) -> dict[str, float]:
    @torch.no_grad()
    def run(*inputs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = module(*map(torch.from_numpy, inputs)).numpy()
        return found

    return metrics.by_coverage(metrics.scores(run, sample), sample)


def _golden() -> dict[str, NDArray[np.float32]]:
    # The last event is empty.
    z, phi, _ = data.simulated(_GOLDEN, 1, hit=True).images()
    z[-1], phi[-1] = 0, 0
    return {"z": z, "phi": phi}


def _calibration() -> dict[str, NDArray[np.float32]]:
    z, phi, _ = data.simulated(_CALIBRATION, 2, hit=True).images()
    return {"z": z, "phi": phi}
