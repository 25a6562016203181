"""Run an ONNX model on arrays, offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sluice.pipeline.inference.onnxruntime import cpu_options

Runner = Callable[..., NDArray[Any]]


def runner(model: bytes | Path, threads: int = 1) -> Runner:
    """Return a function that runs a model on the CPU.

    Parameters
    ----------
    model
        A serialised model, or its file.
    threads
        Number of threads of an operator.

    Returns
    -------
    callable
        Arrays in the order of the model's inputs, to its one output.
    """
    options = cpu_options(threads)
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]

    def run(*inputs: NDArray[Any]) -> NDArray[Any]:
        feed = {n: np.ascontiguousarray(a) for n, a in zip(names, inputs, strict=True)}
        output: NDArray[Any] = session.run(None, feed)[0]
        return output

    return run
