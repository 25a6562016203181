"""Run a model of the repository on columns."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..backends import DEFAULT, Session, open_session
from ..batch import EventBatch, Pool, Schema
from ..errors import ConfigError, nearest
from ..manifest import find_model


class Infer:
    """A model's inputs are columns of the same names, its outputs too, unless mapped."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True):
        """Which model, on what, between which columns."""

        model: str
        #: The newest version unless one is given.
        version: int | None = None
        backend: str = DEFAULT
        #: Tensor name to column name, where they differ.
        inputs: dict[str, str] = {}
        outputs: dict[str, str] = {}

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._backend = options.backend
        self.model = find_model(options.model, options.version)
        manifest = self.model.manifest
        self._require(options.inputs, [tensor.name for tensor in manifest.inputs])
        self._require(options.outputs, [tensor.name for tensor in manifest.outputs])
        self._inputs = {t.name: options.inputs.get(t.name, t.name) for t in manifest.inputs}
        self._outputs = {t.name: options.outputs.get(t.name, t.name) for t in manifest.outputs}
        self.consumes = Schema(
            replace(t.column, name=self._inputs[t.name]) for t in manifest.inputs
        )
        self.provides = Schema(
            replace(t.column, name=self._outputs[t.name]) for t in manifest.outputs
        )

    def open(self, events: int) -> None:
        """Load the model and hold it to its golden outputs."""
        self._session: Session = open_session(self.model, self._backend, f"stage {self.name!r}")
        self._pool = Pool(self.provides, events)

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the model's outputs."""
        outputs = dict(zip(self._outputs, self._pool.views(batch.events), strict=True))
        inputs = {tensor: batch[column] for tensor, column in self._inputs.items()}
        if batch.events:
            self._session.infer(inputs, outputs)
        return batch.with_columns(**{self._outputs[t]: array for t, array in outputs.items()})

    def close(self) -> None:
        """Free the model."""
        self._session.close()

    def _require(self, mapped: dict[str, str], tensors: list[str]) -> None:
        for key in mapped.keys() - set(tensors):
            raise ConfigError(
                f"stage {self.name!r}: model {self.model.label} has no tensor {key!r}",
                nearest(key, tensors),
            )

    def model_info(self) -> dict[str, str]:
        """Return name, version, sha256 and backend."""
        manifest = self.model.manifest
        return {"name": manifest.name, "version": str(manifest.version),
                "sha256": manifest.sha256, "backend": self._backend}  # fmt: skip
