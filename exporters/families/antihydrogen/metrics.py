"""Separation of wall and axis annihilations, by the paper's classes of coverage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.evaluation.classifier import auc
from sluice.exporters.evaluation.uncertainty import auc_error

from .data import COVERAGE, Annihilations

#: Events of which the published numbers are given, as masks of indices into `COVERAGE`.
CLASSES = {
    "vertex": (3,),
    "without": (2,),
    "two_layers": (2, 3),
    "one_layer": (1,),
    "hit": (1, 2, 3),
}
_BATCH = 1_024


def scores(net: Runner, sample: Annihilations) -> NDArray[np.float32]:
    """Return the (N,) probabilities that a net gives."""
    found = [np.empty(0, np.float32)]
    for start in range(0, len(sample), _BATCH):
        z, phi, _ = sample.part(slice(start, start + _BATCH)).images()
        found.append(net(z, phi))
    return np.concatenate(found)


def by_coverage(score: NDArray[Any], sample: Annihilations) -> dict[str, float]:
    """Return ``auc_<class>`` for each of `CLASSES` that holds both kinds of event."""
    classes = _classes(score, sample)
    return {f"auc_{name}": auc(chosen, positive) for name, chosen, positive in classes}


def errors(score: NDArray[Any], sample: Annihilations) -> dict[str, float]:
    """Return the standard errors of `by_coverage`, as ``auc_<class>_error``."""
    classes = _classes(score, sample)
    return {f"auc_{name}_error": auc_error(chosen, positive) for name, chosen, positive in classes}


def _classes(
    score: NDArray[Any], sample: Annihilations
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.bool_]]]:
    """Yield name, scores and truths of each of `CLASSES` that holds both kinds of event."""
    coverage, _ = sample.coverage()
    for name, members in CLASSES.items():
        rows = np.isin(coverage, members)
        positive = sample.truth[rows] == 1
        if 0 < positive.sum() < len(positive):
            yield name, score[rows], positive


def baseline(sample: Annihilations) -> dict[str, float]:
    """Return the metrics of the vertex radius as a score, on the events that have a vertex."""
    coverage, radius = sample.coverage()
    rows = coverage == COVERAGE.index("vertex")
    positive = sample.truth[rows] == 1
    return {"auc_vertex": auc(radius[rows], positive), "n": float(rows.sum())}


def shares(sample: Annihilations) -> dict[str, float]:
    """Return the share of the events in each class of coverage."""
    coverage, _ = sample.coverage()
    return {name: float((coverage == index).mean()) for index, name in enumerate(COVERAGE)}


def clusters(sample: Annihilations) -> dict[str, dict[str, float]]:
    """Return mean number and width of the clusters of each view, of events with hits."""
    bits = np.unpackbits(sample.strips, axis=1)
    found = {}
    for name, start, stop in _VIEWS:
        view = bits[:, start:stop].astype(np.int8)
        edges = np.diff(np.pad(view, ((0, 0), (1, 1))), axis=1)
        count, fired = (edges == 1).sum(), view.sum()
        hit = bits.any(1).sum()
        found[name] = {"clusters": float(count / hit), "width": float(fired / max(1, count))}
    return found


_VIEWS = (
    ("inner_z", 0, 447), ("inner_phi", 447, 693), ("outer_z", 693, 1140), ("outer_phi", 1140, 1430),
)  # fmt: skip
