"""Encoders and taggers of several widths from one training: the rungs of the ladder.

A narrow net is the first part of the wide one: the first of the filters, the first units of each
hidden layer. All widths are trained together and have the same outputs, so that nothing behind
them changes; the decoder is the shipped one, and learns nothing.

References
----------
M. Valipour et al., arXiv:2309.00255: SortedNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.families.wafers import metrics
from sluice.exporters.families.wafers.data import Wafers
from sluice.exporters.families.wafers.training_run import TrainingRun, split
from sluice.exporters.training.loop import Columns, Job, fit
from sluice.exporters.training.parallel import Scores, Task

from . import compare, fixed_point_torch, losses
from . import train as coding
from .model import Autoencoder, Encoder, Tagger

#: Share of the full net's width, by model name.
WIDTHS = {"full": 1.0, "half": 0.5, "quarter": 0.25}
CODER, TAGGER = "nested-coder", "nested-tagger"
_BITS, _FILTERS, _PLACES, _LINKS = 9, 8, 16, 5


class NestedCoder(nn.Module):
    """An encoder all of whose widths are trained, before a decoder that is not.

    Parameters
    ----------
    coder
        Trained coder that encoder and decoder start from.
    """

    def __init__(self, coder: Autoencoder) -> None:
        super().__init__()
        self.encoder = coder.encoder
        self.decoder = coder.decoder.requires_grad_(False)

    def latents(self, image: Tensor) -> list[Tensor]:
        """Return the (N, 16) quantised latents of each width, the full one first."""
        encoder = self.encoder
        pixels = fixed_point_torch.truncate(image.reshape(-1, 64), fixed_point_torch.IMAGE_STEP)
        sums = pixels @ encoder.matrix() + encoder.bias()
        active = functional.relu(fixed_point_torch.truncate(sums, fixed_point_torch.IMAGE_STEP))
        weight, bias = (
            fixed_point_torch.weights(encoder.dense.weight),
            fixed_point_torch.weights(encoder.dense.bias),
        )
        found = []
        for share in WIDTHS.values():
            seen = filters(share) * _PLACES
            latent = functional.relu(functional.linear(active[:, :seen], weight[:, :seen], bias))
            found.append(fixed_point_torch.quantise(latent, _BITS))
        return found

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the (N, 48) fractions that arrive, by width."""
        return [cast(Tensor, self.decoder(latent)) for latent in self.latents(image)]


class NestedTagger(nn.Module):
    """A tagger all of whose widths are trained, each on the latents of its own encoder."""

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self.tagger = tagger

    def logits(self, latents: list[Tensor], total: Tensor) -> list[Tensor]:
        """Return the (N, 3) scores before the softmax, by width."""
        return [
            narrow_tagger(self.tagger, share).logits(latent, total)
            for share, latent in zip(WIDTHS.values(), latents, strict=True)
        ]


def filters(share: float) -> int:
    """Return the filters of an encoder of this share."""
    return round(share * _FILTERS)


def narrow_encoder(encoder: Encoder, share: float) -> Encoder:
    """Return the encoder with the filters beyond its share, and the weights on them, at zero."""
    kept, narrow = filters(share), deepcopy(encoder)
    with torch.no_grad():
        narrow.conv.weight[kept:] = 0.0
        cast(Tensor, narrow.conv.bias)[kept:] = 0.0
        narrow.dense.weight[:, kept * _PLACES :] = 0.0
    return narrow


def narrow_tagger(tagger: Tagger, share: float) -> Tagger:
    """Return a tagger of the first units of each hidden layer, sharing the weights of the whole."""
    layers = [layer for layer in tagger.net if isinstance(layer, nn.Linear)]
    hidden = [max(1, round(share * layer.out_features)) for layer in layers[:-1]]
    narrow = Tagger(hidden)
    parts = [layer for layer in narrow.net if isinstance(layer, nn.Linear)]
    for part, layer in zip(parts, layers, strict=True):
        rows, columns = part.out_features, part.in_features
        del part.weight, part.bias  # views in their place, so that gradients reach the whole
        part.weight = layer.weight[:rows, :columns]
        part.bias = layer.bias[:rows]  # type: ignore[assignment]
    return narrow


def cut_tagger(tagger: Tagger, share: float) -> Tagger:
    """Return a tagger of the first units of each hidden layer, with weights of its own."""
    shared = narrow_tagger(tagger, share)
    layers = [layer for layer in shared.net if isinstance(layer, nn.Linear)]
    cut = Tagger([layer.out_features for layer in layers[:-1]])
    with torch.no_grad():
        for own, layer in zip(
            (layer for layer in cut.net if isinstance(layer, nn.Linear)), layers, strict=True
        ):
            own.weight.copy_(layer.weight)
            own.bias.copy_(layer.bias)
    return cut


def train(run: TrainingRun) -> list[Task]:
    """Return the training of all widths; it starts from the shipped 9-bit encoder."""
    return [(learn, ())]


def learn(run: TrainingRun) -> Scores:
    """Train the encoder's widths, then the tagger's on what they send."""
    held = split(run)
    nested = start(run)
    criterion = losses.chosen("best", _guide(run), run.recipe.autoencoder.blend)

    def distance(rows: Columns) -> Tensor:
        image, fraction = rows
        found = [criterion(fraction, decoded) for decoded in nested(image)]
        return torch.stack(found).mean()

    def columns(part: Wafers) -> Columns:
        return torch.from_numpy(part.image), torch.from_numpy(part.fraction)

    plan = run.recipe.autoencoder.long
    job = Job(CODER, nested, distance, columns(held.train), columns(held.valid), plan)
    found = {CODER: fit(job, run.seed, run.folder, resume=run.resume)}
    return found | _tag(run, nested, held.train, held.valid)


def start(run: TrainingRun) -> NestedCoder:
    """Return the nets at the end of the shipped encoder's training."""
    stem = coding.checkpoint_name(coding.SHIPPED, _BITS, 0)
    coder = Autoencoder(_BITS, run.recipe.autoencoder.width)
    return NestedCoder(coding.load(run.folder / f"{stem}.pt", coder))


def _guide(run: TrainingRun) -> losses.Loss:
    emd = run.recipe.emd
    guide = coding.surrogate(run.folder, coding.GUIDE, emd.nets[emd.guide])
    return cast(losses.Loss, guide.eval().requires_grad_(False))


def _tag(run: TrainingRun, nested: NestedCoder, train: Wafers, valid: Wafers) -> Scores:
    torch.manual_seed(run.seed)
    tagger, entropy = NestedTagger(Tagger(run.recipe.tagger.hidden)), nn.CrossEntropyLoss()

    def loss(rows: Columns) -> Tensor:
        *latents, total, truth = rows
        found = [entropy(logits, truth) for logits in tagger.logits(latents, total)]
        return torch.stack(found).mean()

    def received(part: Wafers) -> Columns:
        with torch.no_grad():
            latents = nested.latents(torch.from_numpy(part.image))
        return *latents, torch.from_numpy(part.total), torch.from_numpy(part.truth)

    job = Job(TAGGER, tagger, loss, received(train), received(valid), run.recipe.tagger.schedule)
    return {TAGGER: fit(job, run.seed, run.folder, resume=run.resume)}


def coders(runners: Mapping[str, Runner]) -> dict[str, compare.Codec]:
    """Return the encoder of each width in the repository, with the shipped decoder."""
    decoder = runners[f"wafer-decoder-{_BITS}b"]
    return {
        name: compare.shipped(runners[encoder], decoder, _LINKS)
        for name in WIDTHS
        if (encoder := f"wafer-encoder-{_BITS}b-{name}") in runners
    }


def table(runners: Mapping[str, Runner], hard: Wafers, simulated: Wafers) -> list[dict[str, Any]]:
    """Return the quality of each width: mean EMD on `hard`, the tagger's curves on `simulated`."""
    found = []
    for name, coder in coders(runners).items():
        line = metrics.codec(coder, hard)
        encoder, tagger = runners[f"wafer-encoder-{_BITS}b-{name}"], runners[f"wafer-tagger-{name}"]
        tags = metrics.tagging(tagger, encoder, simulated)
        kept = {key: line[key] for key in ("emd_mean", "emd_median", "response_mean", "n")}
        found.append({"width": name, "filters": filters(WIDTHS[name]), **kept, **tags})
    return found
