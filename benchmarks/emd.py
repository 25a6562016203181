"""Earth mover's distances: exact kernel and surrogates against POT, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.kernels import wafer
from sluice.kernels.emd.exact import emd
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.inference.repository import Model, all_models, find_model
from sluice.pipeline.inference.session import DEFAULT, open_session

_SURROGATES = "wafer-emd"
_BATCH = 1024
_MAIN = "dense"


def measure_emd(pairs: int, repeats: int) -> dict[str, Any]:
    """Time the exact distance, POT's and every surrogate in the model repository on one core.

    Times are of the processor, so that a busy machine does not change them much; exact and POT's
    are taken in turn.

    Parameters
    ----------
    pairs
        Pairs of wafers of each kind: dense (every cell charged), sparse (one in ten), near
        (cells changed by a part in a thousand).
    repeats
        The median of this many rounds.

    Returns
    -------
    dict
        ``exact``: ``max_relative_error`` to POT over all kinds; of dense pairs
        ``seconds_per_pair``, ``pot_seconds_per_pair`` and their ratio ``speedup_over_pot``; the
        same of each kind in ``kinds``. ``surrogates``: ``seconds_per_pair`` in batches of 1024 and
        ``speedup_over_pot`` on dense pairs, by name. ``conditions``.

    Raises
    ------
    ConfigError
        If POT is not installed.
    """
    conditions, pot = benchmark_conditions(), _pot()
    kinds = {name: _exact(pot, *made, repeats) for name, made in _pairs(pairs).items()}
    main = kinds[_MAIN]
    return {
        "exact": {
            **main,
            "max_relative_error": max(kind["max_relative_error"] for kind in kinds.values()),
            "kinds": kinds,
        },
        "surrogates": {
            name: _surrogate(find_model(name), main["pot_seconds_per_pair"], repeats)
            for name in sorted({folder.parent.name for folder in all_models()})
            if name.startswith(_SURROGATES)
        },
        "conditions": {"pairs": pairs, "repeats": repeats, "batch": _BATCH, **conditions},
    }


def _pot() -> ModuleType:
    try:
        import ot
    except ImportError as error:
        raise ConfigError(
            "bench emd: expected the package POT to compare with, got none",
            hint="pip install 'sluice-daq[train]' brings it",
        ) from error
    module: ModuleType = ot
    return module


def _pairs(pairs: int) -> dict[str, tuple[Array, Array]]:
    """Return charge fractions of pairs of wafers, each by kind."""
    random = np.random.default_rng(1)
    p, q = random.random((2, pairs, wafer.CELLS))
    occupied = random.random((2, pairs, wafer.CELLS)) < 0.1
    # A wafer without charge has no distance.
    occupied[:, :, 0] |= ~occupied.any(axis=2)
    changed = p * (1 + 1e-3 * random.uniform(-1, 1, p.shape))
    made = {"dense": (p, q), "sparse": (p * occupied[0], q * occupied[1]), "near": (p, changed)}
    return {
        name: (a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True))
        for name, (a, b) in made.items()
    }


def _exact(pot: ModuleType, p: Array, q: Array, repeats: int) -> dict[str, float]:
    distance = np.array(wafer.DISTANCE)
    ours, theirs = np.empty(len(p)), np.empty(len(p))

    def ask_pot() -> None:
        for n in range(len(p)):
            theirs[n] = pot.emd2(p[n], q[n], distance)

    rounds = [(_time(lambda: emd(p, q, distance, ours)), _time(ask_pot)) for _ in range(repeats)]
    moved = theirs > 0
    error = np.abs(ours - theirs)[moved] / theirs[moved]
    return {
        "max_relative_error": float(error.max(initial=0.0)),
        "seconds_per_pair": statistics.median(mine for mine, _ in rounds) / len(p),
        "pot_seconds_per_pair": statistics.median(other for _, other in rounds) / len(p),
        "speedup_over_pot": statistics.median(other / mine for mine, other in rounds),
    }


def _surrogate(model: Model, pot_seconds: float, repeats: int) -> dict[str, float]:
    p, q = (fractions.astype(np.float32) for fractions in _pairs(_BATCH)[_MAIN])
    names = {tensor.name for tensor in model.manifest.inputs}
    if names != {"p", "q"}:
        raise ModelError(f"model {model.label}: expected inputs ['p', 'q'], got {sorted(names)}")
    session = open_session(model, DEFAULT, "bench emd")
    got = {tensor.name: tensor.column.empty(_BATCH) for tensor in model.manifest.outputs}
    calls = 20

    def infer() -> None:
        for _ in range(calls):
            session.infer({"p": p, "q": q}, got)

    infer()
    seconds = statistics.median(_time(infer) for _ in range(repeats)) / (calls * _BATCH)
    session.close()
    return {"seconds_per_pair": seconds, "speedup_over_pot": pot_seconds / seconds}


def _time(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
