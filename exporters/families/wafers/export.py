"""Export of the wafer models into the repository: names, columns, golden inputs, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import nn

from sluice.exporters.conversion.onnx import Export, serialise, write
from sluice.exporters.conversion.onnx_runner import runner
from sluice.exporters.evaluation.reference_data import study_beside
from sluice.exporters.families.wafers import LABELS
from sluice.exporters.families.wafers.coders.fixed_point import BITS_BY_LINKS
from sluice.exporters.families.wafers.coders.fixed_point_torch import quantise
from sluice.exporters.families.wafers.coders.matrix_form import LoweredEncoder
from sluice.exporters.families.wafers.coders.model import Autoencoder, Tagger
from sluice.exporters.families.wafers.coders.train import SHIPPED, checkpoint_name, load
from sluice.exporters.families.wafers.simulation.wafers import charges
from sluice.exporters.families.wafers.surrogates.model import CnnSurrogate, EmdSurrogate
from sluice.exporters.families.wafers.surrogates.train import CNN
from sluice.exporters.training.provenance import Provenance
from sluice.kernels.wafer.geometry import CELLS, GRID, LATENTS
from sluice.pipeline.inference.manifest import (
    Manifest,
    ModelCard,
    Preprocessing,
    PublishedResult,
    Tensor,
)

from . import data, manifest_metrics
from .coders import nested
from .recipe import Recipe
from .study import archive
from .train import read_provenance

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

CARD = ModelCard(
    reference="G. Di Guglielmo et al., arXiv:2105.01683; "
    "Mach. Learn.: Sci. Technol. 4 (2023) 045058",
    shortcomings=(
        "Simulated wafers are a toy's; showers have no depth, and wafers at the edge are left out.",
        "The front-end chip cuts each product of its convolution, the model only the sums.",
        "Best choice is better nearly everywhere: the page tells where the encoder wins.",
    ),
)
#: Published numbers by model.
PUBLISHED = {
    "wafer-encoder-9b": (
        PublishedResult("measured_emd_mean", 1.05, "the published float model, on the same file"),
    ),
}

_ENCODER = (
    "The front-end chip's encoder for {bits}-bit latents in the chip's arithmetic (6-bit weights), "
    "convolution written out as a matrix; the image is 0 where no cell is shown."
)
_DECODER = (
    "Charge fraction of each cell, sum 1, from {bits}-bit latents as they arrive. The input "
    "latent_bias, (16,), may be fed: it is added to the latents."
)
_TAGGER = "Class probabilities from 9-bit latents and module sum as they arrive."
_NESTED = (
    "An encoder of the first filters of one that was trained in all widths; read by the 9-bit "
    "decoder. In the chip's arithmetic, convolution written out as a matrix."
)
_NESTED_TAGGER = (
    "Class probabilities from latents and module sum, by the first units of a tagger that was "
    "trained in all widths, on the latents of the encoder of the same width."
)
_EMD = "Surrogate of the Earth mover's distance of two wafers' charge fractions, each of sum 1."


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
    exports = _exports(checkpoints, note)
    serialised = {one.manifest.name: serialise(one) for one in exports}
    runners = {name: runner(model) for name, model in serialised.items()}
    found = manifest_metrics.measure(runners)
    folders = [
        write(one, serialised[one.manifest.name], found[one.manifest.name], root) for one in exports
    ]
    archive.write(checkpoints, note.recipe.autoencoder.seeds, study_beside(root, "wafers"))
    return folders


def _exports(checkpoints: Path, note: Provenance[Recipe]) -> list[Export]:
    recipe = note.recipe
    coders = {
        bits: load(
            checkpoints / f"{checkpoint_name(SHIPPED, bits, 0)}.pt",
            Autoencoder(bits, recipe.autoencoder.width),
        )
        for bits in BITS_BY_LINKS.values()
    }
    found = []
    for bits, coder in coders.items():
        encoder, golden = LoweredEncoder(coder.encoder), _golden(coder)
        no_bias = {"latent_bias": np.zeros(LATENTS, np.float32)}
        found += [
            _one(note, f"wafer-encoder-{bits}b", encoder, golden, (IMAGE,), LATENT, _ENCODER, bits),
            _one(
                note,
                f"wafer-decoder-{bits}b",
                coder.decoder,
                golden,
                (LATENT_Q,),
                FRACTION,
                _DECODER,
                bits,
                no_bias,
            ),
        ]
    golden = _golden(coders[9])
    tagger = load(checkpoints / "tagger.pt", Tagger(recipe.tagger.hidden))
    found.append(_one(note, "wafer-tagger", tagger, golden, (LATENT_Q, SUM_Q), SCORE, _TAGGER, 9))
    found += _widths(checkpoints, note, coders[9], golden)
    for name, net in _surrogates(checkpoints, recipe).items():
        found.append(_one(note, name, net, golden, (P, Q), DISTANCE, _EMD, 9))
    return found


def _widths(
    checkpoints: Path, note: Provenance[Recipe], coder: Autoencoder, golden: dict[str, NDArray[Any]]
) -> list[Export]:
    """Return the narrower encoders and taggers, and the full ones that were trained with them."""
    recipe = note.recipe
    nets = nested.NestedCoder(Autoencoder(9, recipe.autoencoder.width))
    tags = nested.NestedTagger(Tagger(recipe.tagger.hidden))
    encoder = load(checkpoints / f"{nested.CODER}.pt", nets).encoder
    tagger = load(checkpoints / f"{nested.TAGGER}.pt", tags).tagger
    found = []
    for name, share in nested.WIDTHS.items():
        narrow = LoweredEncoder(nested.narrow_encoder(encoder, share), nested.filters(share))
        tag = nested.cut_tagger(tagger, share)
        inputs = LATENT_Q, SUM_Q
        found += [
            _one(note, f"wafer-encoder-9b-{name}", narrow, golden, (IMAGE,), LATENT, _NESTED, 9),
            _one(note, f"wafer-tagger-{name}", tag, golden, inputs, SCORE, _NESTED_TAGGER, 9),
        ]
    return found


def _surrogates(checkpoints: Path, recipe: Recipe) -> dict[str, nn.Module]:
    emd = recipe.emd
    nets: dict[str, nn.Module] = {
        _named(name): load(checkpoints / f"{name}.pt", EmdSurrogate(one.widths))
        for name, one in emd.nets.items()
    }
    nets[_named(CNN)] = load(
        checkpoints / f"{CNN}.pt", CnnSurrogate(emd.cnn.filters, emd.cnn.hidden)
    )
    return nets


def _named(net: str) -> str:
    return net if net.startswith("wafer-") else f"wafer-{net}"


def _one(
    note: Provenance[Recipe],
    name: str,
    module: nn.Module,
    golden: dict[str, NDArray[Any]],
    inputs: tuple[Tensor, ...],
    output: Tensor,
    description: str,
    bits: int,
    defaults: dict[str, NDArray[Any]] | None = None,
) -> Export:
    manifest = Manifest(
        name=name,
        version=VERSION,
        family="wafers",
        description=description.format(bits=bits),
        sha256="",
        inputs=inputs,
        outputs=(output,),
        preprocessing=Preprocessing("wafer.normalise" if inputs == (IMAGE,) else ""),
        training=note.training,
        card=replace(CARD, published=PUBLISHED.get(name, ())),
    )
    chosen = {tensor.name: golden[tensor.name] for tensor in inputs}
    return Export(module, manifest, chosen, defaults or {})


def _golden(coder: Autoencoder) -> dict[str, NDArray[Any]]:
    # The last event is empty in every column; the one before it compares a wafer with itself.
    truth, charge = charges(2 * GOLDEN_EVENTS, _GOLDEN_SEED)
    wafers = data.wafers(data.over_link(charge), truth).part(slice(0, GOLDEN_EVENTS - 1))
    with torch.no_grad():
        latent = quantise(coder.encoder(torch.from_numpy(wafers.image)), coder.bits)
        decoded = coder.decoder(latent).numpy()
    decoded[-1] = wafers.fraction[-1]
    columns = (wafers.image, latent.numpy(), wafers.total, wafers.fraction, decoded)
    names = (IMAGE.name, LATENT_Q.name, SUM_Q.name, P.name, Q.name)
    return {name: _closed(column) for name, column in zip(names, columns, strict=True)}


def _closed(column: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([column, np.zeros_like(column[:1])])
