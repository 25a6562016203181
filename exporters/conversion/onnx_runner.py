"""Run an ONNX model on arrays, offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sluice.pipeline.inference.onnxruntime import EXACT_INT8

Runner = Callable[..., NDArray[Any]]


def runner(model: bytes | Path, threads: int = 1) -> Runner:
    """Return a function that runs a model on the CPU.

    Parameters
    ----------
    model
        A serialised model, or its file.
    threads
        CoreSet to use.

    Returns
    -------
    callable
        Arrays in the order of the model's inputs, to its one output.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Errors only: it warns of every input that may be left out.
    options.log_severity_level = 3
    options.add_session_config_entry(*EXACT_INT8)
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]

    def run(*inputs: NDArray[Any]) -> NDArray[Any]:
        feed = {n: np.ascontiguousarray(a) for n, a in zip(names, inputs, strict=True)}
        output: NDArray[Any] = session.run(None, feed)[0]
        return output

    return run
