"""The backend ``layers``: small models of dense layers as one kernel on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sluice.kernels.layers import Layer, compile_layers, run, workspace
from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.core.schema import Array

from .repository import Model


class LayersSession:
    """A model as a program of `sluice.kernels.layers`.

    The outputs of an event are bit-identical in any batch.
    """

    def __init__(self, model: Model, device: str) -> None:
        if device not in ("", "cpu"):
            raise ModelError(
                f"model {model.label}: backend 'layers' has no device {device!r}",
                hint="known here: cpu",
            )
        self.backend = "layers:cpu"
        arrays = model.layers()
        try:
            count = sum(name.startswith("weight_") for name in arrays)
            layers = [
                Layer(arrays[f"weight_{n}"], arrays[f"bias_{n}"], int(arrays[f"activation_{n}"]))
                for n in range(count)
            ]
            self._program = compile_layers(layers)
            self._scale, self._cut = arrays["scale"][0], bool(arrays["cut"][0])
            self._extra_scales = arrays["extra_scales"]
        except (KeyError, IndexError, ValueError) as error:
            raise ModelError(f"model {model.label}: layers file: {error!r}") from error
        self._work = workspace(self._program)
        self._extra = np.empty((0, len(self._extra_scales)), np.float32)
        self._main, *self._others = (tensor.name for tensor in model.manifest.inputs)
        (self._output,) = (tensor.name for tensor in model.manifest.outputs)

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, arrays (N, ...) by tensor name."""
        main, output = inputs[self._main], outputs[self._output]
        events = len(main)
        if len(self._extra) < events:
            self._extra = np.empty((events, len(self._extra_scales)), np.float32)
        extra = self._extra[:events]
        for n, name in enumerate(self._others):
            np.log1p(inputs[name], out=extra[:, n])
            extra[:, n] *= self._extra_scales[n]
        program = self._program
        run(
            main.reshape(events, -1), extra, self._scale, self._cut, program.steps,
            program.sources, program.numbers, program.rows, self._work, output,
        )  # fmt: skip

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
