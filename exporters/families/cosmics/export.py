"""Export of the cosmics models into the repository: columns, golden inputs, cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from sluice.exporters.conversion.onnx import Export, serialise, write
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.evaluation.classifier import mean_and_spread
from sluice.exporters.training.provenance import Provenance
from sluice.kernels.antihydrogen.hodoscope import BARS
from sluice.kernels.antihydrogen.strips import PHI, Z
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.inference.manifest import Manifest, ModelCard, Preprocessing, Tensor

from . import data, evaluate, metrics
from .model import build
from .recipe import Net, Recipe
from .train import read_provenance

INPUTS = {
    "z": Tensor("z", "float32", (2, Z)),
    "phi": Tensor("phi", "float32", (2, PHI)),
    "hodoscope": Tensor("hodoscope", "float32", (2, BARS)),
}
_SAYS = {
    "cosmics": "Probability of an annihilation, not a cosmic muon, from strips and bars.",
    "cosmics-strips": "As `cosmics`, from the strips alone.",
    "cosmics-bars": "As `cosmics`, from the bars alone.",
}
CARD = ModelCard(
    reference="C. Sauerzopf et al., Nucl. Instrum. Meth. A 845 (2017) 579: the hodoscope",
    shortcomings=(
        "Trained and measured on a toy whose hodoscope and muons are ours; there is no published "
        "number of a net that sees the same.",
        "Muons are straight, alone and as many as annihilations; pions do not interact in the "
        "material between tracker and bars.",
    ),
)


def export(checkpoints: Path, root: Path) -> list[Path]:
    """Write the trained models in `checkpoints` into the repository `root`, with their metrics.

    Raises
    ------
    ConfigError
        If a checkpoint is missing or of another shape than the recipe's nets.
    """
    note = read_provenance(checkpoints)
    tested = data.simulated(evaluate.EVENTS, evaluate.SEED)
    golden = data.simulated(64, 1)
    folders = []
    for name, net in note.recipe.nets.items():
        modules = [_load(checkpoints / f"{name}-{k}.pt", net) for k in range(net.seeds)]
        scores = [data.scores(_run(one), net.sees, tested) for one in modules]
        trainings = mean_and_spread([metrics.figures(score, tested) for score in scores])
        inputs: dict[str, NDArray[Any]] = dict(zip(net.sees, golden.seen(net.sees), strict=True))
        manifest = _manifest(note, name, net, trainings | {"seeds": float(net.seeds)})
        one = Export(modules[0], manifest, inputs)
        model = serialise(one)
        found = evaluate.measured(data.scores(runner(model), net.sees, tested), tested)
        folders.append(write(one, model, found, root))
    return folders


def _manifest(
    note: Provenance[Recipe], name: str, net: Net, trainings: dict[str, float]
) -> Manifest:
    return Manifest(
        name=name,
        version=1,
        family="cosmics",
        description=_SAYS.get(name, _SAYS["cosmics"]),
        sha256="",
        inputs=tuple(INPUTS[one] for one in net.sees),
        outputs=(Tensor("annihilation", "float32"),),
        preprocessing=Preprocessing("bars.after_first"),
        training=note.training,
        trainings=trainings,
        card=CARD,
    )


def _load(path: Path, net: Net) -> nn.Module:
    module = build(net)
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(
            f"checkpoint {path} is missing", "`sluice train cosmics` writes it"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: not of the recipe's net: {error}") from error
    return module.eval()


def _run(module: nn.Module) -> Any:
    @torch.no_grad()
    def run(*inputs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = module(*map(torch.from_numpy, inputs)).numpy()
        return found

    return run
