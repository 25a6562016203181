"""Blocks with the figures of the wafer models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .markdown import figure, rows

Table = dict[str, Any]

_LINKS = (2, 3, 4, 5)
_CODECS = {
    "best-choice": "best choice, rest dropped",
    "best-choice-spread": "best choice, rest spread evenly",
    "stc4": "super trigger cells of 4",
    "stc16": "super trigger cells of 16",
    "encoder-mse": "encoder, squared error",
    "encoder-telescope": "encoder, telescope",
    "encoder-emd": "encoder, EMD",
    "encoder-best": "encoder, EMD + cross-entropy",
    "encoder-conditional": "the same, decoder sees the sum",
    "encoder-shipped": "**encoder as shipped**",
}
_KINDS = {
    "random": "random", "best_choice": "best choice", "stc4": "stc4", "stc16": "stc16",
    "threshold": "threshold", "moved": "moved", "near": "near", "encoder-3b": "encoder-3b",
    "encoder-9b": "encoder-9b",
}  # fmt: skip
_SAMPLES = {"": "pile-up file", "simulated/": "simulated", "electron/": "electrons",
            "jet/": "jets", "ttbar/": "top pairs, never trained on"}  # fmt: skip


def _codecs(found: Table) -> list[str]:
    lines = {(line["codec"], line["elinks"]): line for line in found["codecs"]}
    shown = [
        [said, *(_distance(lines.get((name, links), {})) for links in _LINKS)]
        for name, said in _CODECS.items()
    ]
    events = f"{found['sample']['hard']:,}"
    return rows((f"mean EMD, {events} wafers", *(f"{n} links" for n in _LINKS)), shown)


def _distance(line: Table) -> str:
    spread = f" ± {line['emd_spread']:.3f}" if line.get("emd_spread") else ""  # of one training: 0
    return f"{line['emd_mean']:.3f}{spread}" if line else ""


def _gains(found: Table) -> list[str]:
    by_pair: dict[str, dict[int, Table]] = {}
    for line in found["gains"]:
        names = (line[key].removeprefix("encoder-") for key in ("better", "worse"))
        by_pair.setdefault(" than ".join(names), {})[line["elinks"]] = line
    shown = [
        [pair, *(_gain(lines.get(links, {})) for links in _LINKS)]
        for pair, lines in by_pair.items()
    ]
    return rows(("lower by, seed by seed", *(f"{n} links" for n in _LINKS)), shown)


def _gain(line: Table) -> str:
    return f"{line['gain_mean']:.3f} ± {line['gain_spread']:.3f}" if line else ""


def _regimes(name: str, found: Table) -> list[str]:
    table = found["surrogates"][name]
    shown = [
        [said, *(_bias_and_std(table["regimes"].get(prefix + kind)) for kind in _KINDS)]
        for prefix, said in _SAMPLES.items()
    ]
    head = ("bias / std, %", *_KINDS.values())
    us_a_pair = 1e6 * table["seconds_per_pair"]
    cost = f"{table['multiply_adds']:,} multiply-adds, {us_a_pair:.2f} us a pair"
    return [f"`{name}`, {cost}:", "", *rows(head, shown)]


def _bias_and_std(kind: Table | None) -> str:
    return f"{100 * kind['bias']:+.1f} / {100 * kind['std']:.1f}" if kind else ""


def _surrogates(found: Table) -> list[str]:
    lines = []
    for name, table in sorted(
        found["surrogates"].items(), key=lambda item: int(item[1]["multiply_adds"])
    ):
        std = [100 * kind["std"] for kind in table["regimes"].values()]
        bias = [100 * abs(kind["bias"]) for kind in table["regimes"].values()]
        lines.append([f"`{name}`", f"{table['multiply_adds']:,}",
                      f"{1e6 * table['seconds_per_pair']:.2f}", f"{np.median(std):.2f}",
                      f"{max(std):.2f}", f"{max(bias):.2f}"])  # fmt: skip
    head = ("surrogate", "multiply-adds", "us a pair", "median std, %", "worst std, %",
            "worst bias, %")  # fmt: skip
    exact, pot = (1e6 * found["exact"][f"{key}seconds_per_pair"] for key in ("", "pot_"))
    against = (
        f"All times are of the processor. On the same core a pair takes POT {pot:.0f} us and the "
        f"exact kernel {exact:.1f} us."
    )
    return [*rows(head, lines), "", against]


def _tagger(found: Table) -> list[str]:
    table, labels = found["models"]["wafer-tagger"], ("electromagnetic", "hadronic", "pileup")
    areas = [figure(table, f"auc_{label}", 3) for label in labels]
    head = ("area under the curve", "electromagnetic", "hadronic", "pile-up")
    measured = found["tagger"].get("auc")
    against = "" if measured is None else f"{measured:.2f}"
    lines = [["simulated wafers", *areas], ["measured electrons against jets", against, "", ""]]
    return rows(head, lines)


def _widths(found: Table) -> list[str]:
    models = found["models"]
    lines = [["as shipped", *_width(models, "")]]
    lines += [[name, *_width(models, f"-{name}")] for name in ("full", "half", "quarter")]
    head = ("width", "mean EMD, pile-up file", "accuracy", "electromagnetic", "hadronic", "pile-up")
    return rows(head, lines)


def _width(models: Table, suffix: str) -> list[str]:
    encoder, tagger = models[f"wafer-encoder-9b{suffix}"], models[f"wafer-tagger{suffix}"]
    keys = ("accuracy", "auc_electromagnetic", "auc_hadronic", "auc_pileup")
    return [figure(encoder, "measured_emd_mean", 3), *(figure(tagger, key, 3) for key in keys)]


#: Functions of the blocks.
TABLES: dict[str, Callable[[Table], list[str]]] = {
    "wafers-codecs": _codecs,
    "wafers-gains": _gains,
    "wafers-surrogate": partial(_regimes, "wafer-emd"),
    "wafers-surrogate-large": partial(_regimes, "wafer-emd-large"),
    "wafers-surrogates": _surrogates,
    "wafers-tagger": _tagger,
    "wafers-widths": _widths,
}
