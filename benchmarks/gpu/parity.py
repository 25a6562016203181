"""Every model on one backend of a GPU against its golden outputs and against the CPU."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.core.schema import Array
from sluice.pipeline.inference.repository import Model, all_models, read_model
from sluice.pipeline.inference.session import DEFAULT, open_session

#: Events at once: one, an odd few, more than an engine takes in one piece.
_SIZES = (1, 7, 300, 5000)


def main() -> int:
    """Compare all models; 1 if one differs or cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--models", nargs="*", help="only these, instead of all")
    options = parser.parse_args()
    models: list[dict[str, Any]] = []
    for folder in all_models():
        model = read_model(folder)
        if options.models and model.manifest.name not in options.models:
            continue
        models.append({"model": model.label, **compare(model, options.backend)})
        print(models[-1], flush=True)
        # Written after each model, so that results survive the time limit.
        options.json.write_text(json.dumps({"backend": options.backend, "models": models}))
    return int(not all(one["passed"] for one in models))


def compare(model: Model, backend: str) -> dict[str, Any]:
    """Return the difference of a backend's outputs from the CPU's, and the time to load it."""
    found: dict[str, Any] = {
        "passed": False, "why": "", "difference": None, "allowed": model.manifest.tolerance,
        "load_s": None,
    }  # fmt: skip
    began = time.monotonic()
    try:
        _build(model, backend)
        session = open_session(model, backend, "gpu-check")  # reproduces the golden outputs
        found["load_s"] = time.monotonic() - began
        found["allowed"] = max(found["allowed"], getattr(session, "tolerance", 0.0))
        found["difference"] = _difference(model, session)
        session.close()
    except SluiceError as error:
        return found | {"why": str(error)}
    except Exception as error:  # one model must not hide the others
        return found | {"why": f"{type(error).__name__}: {error}"}
    if not found["difference"] <= found["allowed"]:
        return found | {"why": "differs"}
    return found | {"passed": True}


def _build(model: Model, backend: str) -> None:
    """Build the engine that a native backend wants."""
    if backend.partition(":")[0] != "tensorrt":
        return
    from sluice.exporters.conversion import tensorrt
    from sluice.pipeline.inference import tensorrt_plans

    root = tensorrt_plans.folder()
    tensorrt.build(model, model.manifest.precision, model.manifest.batch, root, force=True)


def _difference(model: Model, session: Any) -> float:
    """Return the greatest difference from the CPU, over several sizes of batches."""
    reference = open_session(model, DEFAULT, "gpu-check")
    worst = 0.0
    for size in _SIZES:
        inputs = _inputs(model, size)
        made = [_outputs(model, size) for _ in range(2)]
        session.infer(inputs, made[0])
        reference.infer(inputs, made[1])
        for name, array in made[0].items():
            far = np.abs(array.astype(np.float64) - made[1][name].astype(np.float64))
            worst = max(worst, float(np.max(far, initial=0.0)))
            if np.isnan(far).any():
                return float("inf")
    reference.close()
    return worst


def _inputs(model: Model, size: int) -> dict[str, Array]:
    """Return golden events, repeated in another order for each size."""
    golden, _ = model.golden()
    rows = np.random.default_rng(size).integers(0, len(next(iter(golden.values()))), size)
    return {name: np.ascontiguousarray(array[rows]) for name, array in golden.items()}


def _outputs(model: Model, size: int) -> dict[str, Array]:
    return {tensor.name: tensor.column.empty(size) for tensor in model.manifest.outputs}


if __name__ == "__main__":
    sys.exit(main())
