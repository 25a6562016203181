"""Metrics in the manifest of each shipped wafer model, on wafers kept for tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.families.wafers.coders.fixed_point import BITS_BY_LINKS

from . import data, measured_files, metrics
from .coders import compare, nested
from .data import Wafers
from .metrics import Metrics

EVENTS = 6_000
#: Apart from every seed that a recipe trains with.
SEED = 977
#: Share of the simulated wafers with the charge that the chip's codes leave.
CODED = 0.5
_PAIRS = 1_000
_BUSY = "CALQ_output.csv"


def measure(runners: Mapping[str, Runner]) -> dict[str, Metrics]:
    """Return the metrics of each model by its name, with their standard errors.

    Those on measured wafers have the prefix ``measured_``; they are left out where the file is not
    there.
    """
    samples = {"": data.simulated(EVENTS, SEED, CODED)}
    measured = measured_files.measured(_BUSY)
    if measured is not None:
        kept = measured_files.test_rows(measured.charge)
        samples["measured_"] = measured.part(np.flatnonzero(kept))
    found: dict[str, Metrics] = {name: {} for name in runners}
    for prefix, sample in samples.items():
        for name, table in _on(runners, sample).items():
            found[name] |= {f"{prefix}{key}": value for key, value in table.items()}
    for name in (name for name in runners if name.startswith("wafer-tagger")):
        encoder = runners[name.replace("wafer-tagger", "wafer-encoder-9b")]
        found[name] = metrics.tagging(runners[name], encoder, samples[""])
    return found


def shipped(runners: Mapping[str, Runner]) -> dict[int, compare.Codec]:
    """Return the encoders that ship, with their decoders, by output links."""
    return {
        links: compare.shipped(
            runners[f"wafer-encoder-{bits}b"], runners[f"wafer-decoder-{bits}b"], links
        )
        for links, bits in BITS_BY_LINKS.items()
    }


def _on(runners: Mapping[str, Runner], sample: Wafers) -> dict[str, Metrics]:
    found: dict[str, Metrics] = {}
    hard = data.threshold(sample)
    coders = shipped(runners)
    for links, bits in BITS_BY_LINKS.items():
        found[f"wafer-encoder-{bits}b"] = _coding(coders[links], hard)
    for width, coder in nested.coders(runners).items():
        found[f"wafer-encoder-9b-{width}"] = _coding(coder, hard)
    decoders = {f"encoder-{BITS_BY_LINKS[n]}b": one.decode[0] for n, one in coders.items()}
    regimes = metrics.pair_regimes(sample, decoders, SEED, _PAIRS)
    for name in (name for name in runners if name.startswith("wafer-emd")):
        table = metrics.surrogate_errors(runners[name], regimes)
        found[name] = {f"{k}_{key}": line[key] for k, line in table.items() for key in line}
    return found


def _coding(coder: compare.Codec, hard: Wafers) -> Metrics:
    line = metrics.codec(coder, hard)
    kept = ("emd_mean", "emd_median", "response_mean", "n")
    return {key: float(line[key]) for key in kept} | metrics.coding_errors(coder, hard)
