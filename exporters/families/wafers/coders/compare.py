"""Codecs of a wafer, all as functions from wafers to decoded charge.

Encoders that ship run as the models they are; those only trained for comparison run here, in the
chip's integers and in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.families.wafers.data import F32, Wafers
from sluice.kernels.wafer import LATENTS, packed_bits, packed_bytes, quantise_pack
from sluice.kernels.wafer import codecs as kernels

from . import fixed_point
from .fixed_point import BITS_BY_LINKS

LINK_BITS = 32
THRESHOLD, REPEATER = "threshold", "repeater"
Decode = Callable[[Wafers], F32]


@dataclass(frozen=True)
class Codec:
    """One way to send a wafer over the link.

    Attributes
    ----------
    name
        Name that the evaluation prints.
    links
        Output links of 32 bits a crossing that it takes.
    bits
        Bits of a wafer, on average.
    decode
        (N, 48) f32 decoded charge, ADC counts, of each training of the codec: one, or one a seed.
    """

    name: str
    links: int
    bits: float
    decode: tuple[Decode, ...]


def over_link(latent: F32, total: F32, bits: int) -> tuple[F32, F32]:
    """Quantise (N, 16) latents and (N,) module sums as the output link does."""
    events = len(latent)
    packed = np.empty((events, packed_bytes(bits)), np.uint8)
    latent_q, sum_q = np.empty((events, LATENTS), np.float32), np.empty(events, np.float32)
    quantise_pack(np.ascontiguousarray(latent), total, bits, packed, latent_q, sum_q)
    return latent_q, sum_q


def classical(sample: Wafers) -> Iterator[Codec]:
    """Yield the chip's codecs without a net; the threshold's bits are those of the sample."""
    for links in BITS_BY_LINKS:
        cells = kernels.BEST_CHOICE_CELLS[links - 1]
        bits = kernels.best_choice_bits(cells)
        for name, spread in (("best-choice", False), ("best-choice-spread", True)):
            yield Codec(name, links, bits, (_best_choice(cells, spread),))
    for name, groups, links in (
        ("stc4", kernels.GROUPS_OF_4, 5),
        ("stc16", kernels.GROUPS_OF_16, 2),
    ):
        bits = kernels.super_trigger_cell_bits(groups.shape[1])
        yield Codec(name, links, bits, (_super_cells(groups, False),))
        yield Codec(f"{name}-spread", links, bits, (_super_cells(groups, True),))
    sent = np.empty(len(sample), np.int64)
    kernels.threshold(_charge(sample), kernels.THRESHOLD_ADC, False, 0, _blank(sample), sent)
    mean = float(sent.mean()) if len(sent) else 0.0
    yield Codec(THRESHOLD, -(-int(mean + 5) // LINK_BITS), mean, (_threshold,))
    yield Codec(REPEATER, 11, kernels.REPEATER_BITS, (_repeater,))


def shipped(encoder: Runner, decoder: Runner, links: int) -> Codec:
    """Return an encoder and its decoder, as models, as a codec."""
    bits = BITS_BY_LINKS[links]

    def decode(sample: Wafers) -> F32:
        latent_q, sum_q = over_link(encoder(sample.image), sample.total, bits)
        charge: F32 = decoder(latent_q) * sum_q[:, None]
        return charge

    return Codec("encoder-shipped", links, packed_bits(bits), (decode,))


def compared(folder: Path) -> Iterator[Codec]:
    """Yield the encoders in the files ``encoders-seed<N>.npz`` of the study's folder."""
    files = [
        np.load(path, allow_pickle=False) for path in sorted(folder.glob("encoders-seed*.npz"))
    ]
    kinds = dict.fromkeys(key.split("/")[0] for file in files for key in file)
    for kind in kinds:
        for links, bits in BITS_BY_LINKS.items():
            stem = f"{kind}/{bits}/"
            held = [{k.removeprefix(stem): f[k] for k in f if k.startswith(stem)} for f in files]
            decode = tuple(_studied(weights, bits) for weights in held if weights)
            if decode:
                yield Codec(f"encoder-{kind}", links, packed_bits(bits), decode)


def decoded(held: Mapping[str, NDArray[Any]], latent: F32, total: F32) -> F32:
    """Return (N, 48) fractions from latents and sums as they arrive, by the decoder in `held`."""
    weights = [held[f"decoder.net.{i}.weight"].astype(np.float32) for i in (0, 2, 4)]
    biases = [held[f"decoder.net.{i}.bias"].astype(np.float32) for i in (0, 2, 4)]
    x = latent
    if weights[0].shape[1] > LATENTS:
        x = np.concatenate([x, (0.15 * np.log1p(total))[:, None]], 1)
    for weight, bias in zip(weights[:2], biases[:2], strict=True):
        x = np.maximum(x @ weight.T + bias, 0.0)
    logits = x @ weights[2].T + biases[2]
    logits = np.exp(logits - logits.max(1, keepdims=True))
    fraction: F32 = logits / logits.sum(1, keepdims=True)
    return fraction


def _studied(held: Mapping[str, NDArray[Any]], bits: int) -> Decode:
    encoder = {k.removeprefix("encoder."): v for k, v in held.items() if k.startswith("encoder.")}

    def decode(sample: Wafers) -> F32:
        latent = fixed_point.encode(encoder, sample.image, bits).astype(np.float32)
        latent_q, sum_q = over_link(latent * np.float32(2.0 ** (1 - bits)), sample.total, bits)
        charge: F32 = decoded(held, latent_q, sum_q) * sum_q[:, None]
        return charge

    return decode


def _best_choice(cells: int, spread: bool) -> Decode:
    def decode(sample: Wafers) -> F32:
        out = _blank(sample)
        kernels.best_choice(_charge(sample), cells, spread, 0, out)
        return out

    return decode


def _super_cells(groups: NDArray[np.int64], spread: bool) -> Decode:
    def decode(sample: Wafers) -> F32:
        out = _blank(sample)
        kernels.super_trigger_cell(_charge(sample), groups, spread, 0, out)
        return out

    return decode


def _threshold(sample: Wafers) -> F32:
    out = _blank(sample)
    bits = np.empty(len(sample), np.int64)
    kernels.threshold(_charge(sample), kernels.THRESHOLD_ADC, False, 0, out, bits)
    return out


def _repeater(sample: Wafers) -> F32:
    out = _blank(sample)
    kernels.repeater(_charge(sample), 0, out)
    return out


def _charge(sample: Wafers) -> F32:
    return sample.charge.astype(np.float32)


def _blank(sample: Wafers) -> F32:
    return np.zeros(sample.charge.shape, np.float32)
