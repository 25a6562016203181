"""Export of the jets' taggers into the repository: names, golden inputs, metrics, cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch

from sluice.exporters.conversion.onnx import Export, serialise, write
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.conversion.quantize import write_variants
from sluice.exporters.evaluation.reference_data import study_beside
from sluice.exporters.training.provenance import Provenance
from sluice.kernels.jets.observables import OBSERVABLES
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.manifest import Manifest, ModelCard, Preprocessing, Tensor

from . import trainings
from .data import HELD_OUT, Jets
from .evaluate import PARAMETRISED, SHIPPED, measured, table
from .recipe import Recipe
from .study import archive
from .train import read_provenance
from .trainings import Net, Trained

GOLDEN_EVENTS = 64
CALIBRATION_EVENTS = 2_048
VERSION = 1

OBSERVED = Tensor("observables", "float32", (len(OBSERVABLES),), labels=OBSERVABLES)
RESONANCE = Tensor("resonance", "float32", unit="GeV")
SIGNAL = Tensor("signal", "float32")

_SAYS = {
    "plain": "Probability of a boosted resonance of 100 GeV; sculpts the jet mass.",
    "adversarial": "Probability of a boosted resonance of 100 GeV; an adversary that guesses the "
    "jet mass from the score kept the mass out of it.",
    "disco": "Probability of a boosted resonance of 100 GeV; the distance correlation with the jet "
    "mass was part of the loss.",
    "narrow": "The tagger with an adversary, two layers of 16 units: the rung below.",
}
_PARAMETRISED_SCORE = (
    "Probability of a boosted resonance of the mass that is its second input, 60 to 250 GeV; "
    "never trained at 125 GeV. An adversary kept the jet mass out of it."
)
_REFERENCES = {
    "adversary": "C. Shimmin et al., Phys. Rev. D 96 (2017) 074034, arXiv 1703.03507",
    "disco": "G. Kasieczka, D. Shih, Phys. Rev. Lett. 125 (2020) 122001, arXiv 2001.05310",
    "": "C. Shimmin et al., Phys. Rev. D 96 (2017) 074034, arXiv 1703.03507",
}
_SHORTCOMINGS = (
    "A toy detector: no pile-up, no magnetic field, one resolution for all tracks.",
    "The papers show curves, so no published number stands beside ours.",
    "1/JSD is limited by the number of test jets; the page gives that limit.",
)


def export(checkpoints: Path, root: Path) -> list[Path]:
    """Write the trained models in `checkpoints` into the repository `root`, with their metrics.

    Raises
    ------
    ConfigError
        If the checkpoints are not there, or are not the recipe's nets.
    ModelError
        If a model computes something else in ONNX Runtime than in torch.
    """
    note = read_provenance(checkpoints)
    known = {net.name: net for net in trainings.nets(note.recipe)}
    taggers = {
        stem: _load(checkpoints, net, stem, note) for net in known.values()
        for stem in archive.checkpoint_names(net)
    }  # fmt: skip
    parts = trainings.sample(checkpoints)
    study = study_beside(root, "jets")
    kept = archive.write(study, note.recipe, parts["test"], taggers)
    _, test, taggers = archive.read(study)
    folders = []
    for name, model in SHIPPED.items():
        one = _export(note, model, _SAYS[name], known[name], taggers, parts["valid"])
        one = _with_trainings(one, table(known[name], taggers, test), known[name])
        data = serialise(one)
        folders.append(write(one, data, measured(model, runner(data), test), root))
        if name == "disco":
            calibration = {OBSERVED.name: parts["train"].x[:CALIBRATION_EVENTS]}
            folders += write_variants(
                one, data, calibration, partial(measured, model, test=test), root
            )
    net = known["parametrised-adversarial"]
    one = _export(note, PARAMETRISED, _PARAMETRISED_SCORE, net, taggers, parts["valid"])
    one = _with_trainings(one, table(net, taggers, test, HELD_OUT), net)
    data = serialise(one)
    folders.append(write(one, data, measured(PARAMETRISED, runner(data), test), root))
    return [*folders, *kept]


def _export(
    note: Provenance[Recipe],
    model: str,
    says: str,
    net: Net,
    taggers: Mapping[str, Trained],
    golden: Jets,
) -> Export:
    inputs = (OBSERVED, RESONANCE) if net.parametrised else (OBSERVED,)
    manifest = Manifest(
        name=model,
        version=VERSION,
        family="jets",
        description=says,
        sha256="",
        inputs=inputs,
        outputs=(SIGNAL,),
        preprocessing=Preprocessing("jets.observe"),
        training=note.training,
        card=ModelCard(reference=_REFERENCES[net.means], shortcomings=_SHORTCOMINGS),
    )
    return Export(
        taggers[archive.checkpoint_names(net)[0]].tagger, manifest, _golden(golden, inputs)
    )


def _golden(jets: Jets, inputs: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    # The last event has no jet.
    rows = np.linspace(0, len(jets) - 1, GOLDEN_EVENTS - 1).astype(np.int64)
    x = np.concatenate([jets.x[rows], np.zeros((1, len(OBSERVABLES)), np.float32)])
    found = {OBSERVED.name: x}
    if RESONANCE in inputs:
        found[RESONANCE.name] = np.linspace(60.0, 250.0, len(x)).astype(np.float32)
    return found


def _with_trainings(one: Export, means: dict[str, float], net: Net) -> Export:
    manifest = msgspec.structs.replace(one.manifest, trainings=means | {"seeds": float(net.seeds)})
    return replace(one, manifest=manifest)


def _load(checkpoints: Path, net: Net, stem: str, note: Provenance[Recipe]) -> Trained:
    path = checkpoints / f"{stem}.pt"
    module = Trained(net, note.recipe)
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except OSError as error:
        raise ConfigError(
            f"checkpoints {checkpoints}: {path.name} is missing", "`sluice train jets` writes it"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"{path}: not the recipe's net: {error}") from error
    return module
