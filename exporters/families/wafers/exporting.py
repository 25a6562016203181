"""The wafer models on their way into the repository: names, columns, golden inputs, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sluice.exporters.inference import runner
from sluice.exporters.onnx import Export, serialise, write
from sluice.kernels.wafer_geometry import CELLS, GRID, LATENTS
from sluice.pipeline.errors import ConfigError
from sluice.pipeline.manifest import Manifest, Preprocessing, Tensor

from . import data
from .evaluating import EVENTS, MODELS, SEED, chain_of, measure
from .lowering import LoweredEncoder
from .metrics import over_link
from .model import Autoencoder, EmdSurrogate, Tagger
from .simulate import LABELS, charges
from .training import PROVENANCE, Note

ENCODER, DECODER, TAGGER, EMD = MODELS
Net = TypeVar("Net", bound=nn.Module)

GOLDEN_EVENTS = 64
_GOLDEN_SEED = 1
VERSION = 1

IMAGE = Tensor("image", "float32", GRID)
LATENT = Tensor("latent", "float32", (LATENTS,))
LATENT_Q = Tensor("latent_q", "float32", (LATENTS,))
SUM_Q = Tensor("sum_q", "float32", unit="ADC")
FRACTION = Tensor("fraction", "float32", (CELLS,))
SCORE = Tensor("score", "float32", (len(LABELS),), labels=LABELS)
P, Q = Tensor("p", "float32", (CELLS,)), Tensor("q", "float32", (CELLS,))
DISTANCE = Tensor("emd", "float32", unit="unit-hex distance")

_DESCRIPTIONS = {
    ENCODER: (
        "The front-end chip's encoder for 9-bit latents, convolution written out as a matrix; "
        "the image is 0 where no cell is shown. Latents leave unquantised."
    ),
    DECODER: "Charge fraction of each cell, sum 1, from the latents as they arrive.",
    TAGGER: "Class probabilities from latents and module sum as they arrive.",
    EMD: "Surrogate of the Earth mover's distance of two wafers' charge fractions, each of sum 1.",
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
    note = _note(checkpoints)
    exports = _exports(checkpoints, note)
    serialised = {one.manifest.name: serialise(one) for one in exports}
    chain = chain_of({name: runner(model) for name, model in serialised.items()})
    sample = data.simulated(EVENTS, SEED, note.recipe.coded)
    found = measure(chain, sample, SEED)
    return [
        write(one, serialised[one.manifest.name], found.get(one.manifest.name, {}), root)
        for one in exports
    ]


def _exports(checkpoints: Path, note: Note) -> list[Export]:
    recipe = note.recipe
    coder = _load(checkpoints / "autoencoder.pt", Autoencoder())
    tagger = _load(checkpoints / "tagger.pt", Tagger(recipe.tagger.hidden))
    emd = _load(checkpoints / "emd.pt", EmdSurrogate(recipe.emd.planes, recipe.emd.hidden))
    encoder = LoweredEncoder(coder.encoder)
    golden = _golden(encoder, coder)

    def one(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Export:
        manifest = Manifest(
            name=name,
            version=VERSION,
            family="wafers",
            description=_DESCRIPTIONS[name],
            sha256="",
            inputs=inputs,
            outputs=(output,),
            preprocessing=Preprocessing("wafer.normalise" if name == ENCODER else ""),
            training=note.training,
        )
        return Export(module, manifest, {tensor.name: golden[tensor.name] for tensor in inputs})

    return [
        one(ENCODER, encoder, (IMAGE,), LATENT),
        one(DECODER, coder.decoder, (LATENT_Q,), FRACTION),
        one(TAGGER, tagger, (LATENT_Q, SUM_Q), SCORE),
        one(EMD, emd, (P, Q), DISTANCE),
    ]


def _golden(encoder: nn.Module, coder: Autoencoder) -> dict[str, NDArray[Any]]:
    # The last event is empty in every column; the one before it compares a wafer with itself.
    truth, charge = charges(2 * GOLDEN_EVENTS, _GOLDEN_SEED)
    wafers = data.wafers(data.over_link(charge), truth).part(slice(0, GOLDEN_EVENTS - 1))
    image = _closed(wafers.image)
    with torch.no_grad():
        latent = encoder(torch.from_numpy(image)).numpy()
        latent_q, sum_q = over_link(latent, _closed(wafers.total))
        latent_q[-1] = 0.0
        decoded = coder.decoder(torch.from_numpy(latent_q)).numpy()[:-1]
    decoded[-1] = wafers.fraction[-1]
    return {
        IMAGE.name: image,
        LATENT_Q.name: latent_q,
        SUM_Q.name: sum_q,
        P.name: _closed(wafers.fraction),
        Q.name: _closed(decoded),
    }


def _closed(column: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([column, np.zeros_like(column[:1])])


def _load(path: Path, module: Net) -> Net:
    try:
        module.load_state_dict(torch.load(path, weights_only=True))
    except FileNotFoundError as error:
        raise ConfigError(
            f"checkpoint {path}: missing", "`sluice train wafers` writes it"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: not of this recipe: {error}") from error
    return module


def _note(checkpoints: Path) -> Note:
    path = checkpoints / PROVENANCE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except OSError as error:
        raise ConfigError(
            f"checkpoints {checkpoints}: {PROVENANCE} is missing",
            "`sluice train wafers` writes it",
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
