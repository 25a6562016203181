"""The stage ``infer``: runs a model of the repository on columns."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.buffers import OutputBuffers
from sluice.pipeline.core.errors import ConfigError, ModelError, did_you_mean
from sluice.pipeline.core.schema import Array, Schema
from sluice.pipeline.inference.manifest import Preprocessing, Tensor
from sluice.pipeline.inference.repository import Model, find_model
from sluice.pipeline.inference.session import (
    DEFAULT,
    Session,
    open_session,
    open_verified_session,
)

from .padding import Padding

#: Name of the last rung, without a model: only paths that need no model can fire.
NO_MODEL = "no-model"
#: Name of that rung in graph files of an earlier release; still accepted.
_OLD_NO_MODEL = "cuts"


class Infer:
    """Runs one model; each tensor is the column of the same name, unless `columns` maps it."""

    class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Model, backend and columns."""

        model: str
        #: Version of the model; the newest if omitted.
        version: int | None = None
        backend: str = DEFAULT
        #: Name of the column by name of the tensor, where they differ.
        inputs: dict[str, str] = {}
        outputs: dict[str, str] = {}
        #: Shadow models, ``NAME`` or ``NAME@VERSION``: they process a sample and never decide.
        shadow: tuple[str, ...] = ()
        #: Fraction of the events that shadows process.
        shadow_sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
        #: Lengths to which the lists of a tensor are padded, items; its maximum if omitted.
        buckets: dict[str, tuple[int, ...]] = {}
        #: Replacements under load, best first: models, or ``no-model`` for a rung without one.
        ladder: tuple[str, ...] = ()

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._backend = options.backend
        self.shadows, self.shadow_sample = options.shadow, options.shadow_sample
        self.model = find_model(options.model, options.version)
        manifest = self.model.manifest
        columns = [tensor for tensor in manifest.inputs if not tensor.companion_of]
        self._require(options.inputs, [tensor.name for tensor in columns])
        self._require(options.outputs, [tensor.name for tensor in manifest.outputs])
        self._inputs = {t.name: options.inputs.get(t.name, t.name) for t in columns}
        self._outputs = {t.name: options.outputs.get(t.name, t.name) for t in manifest.outputs}
        self.consumes = Schema(replace(t.column, name=self._inputs[t.name]) for t in columns)
        self.provides = Schema(
            replace(t.column, name=self._outputs[t.name]) for t in manifest.outputs
        )
        self._buckets = self._bucket_sizes(options.buckets)
        ladder = tuple(NO_MODEL if label == _OLD_NO_MODEL else label for label in options.ladder)
        self._ladder_models = [self._ladder_model(label, ladder) for label in ladder]
        self.rungs = 1 + len(ladder)

    def open(self, events: int) -> None:
        """Load the models and check each against its golden outputs."""
        self._events = events
        self._session: Session = open_session(self.model, self._backend, f"stage {self.name!r}")
        #: Sessions of the stage's own model, by the epoch from which each is used.
        self._sessions = {0: self._session}
        self._pool = OutputBuffers(self.provides, events)
        #: Sessions of the rungs from 1 on; None for the rung without a model.
        self._ladder_sessions = [
            None if model is None else open_session(model, self._backend, f"stage {self.name!r}")
            for model in self._ladder_models
        ]
        self._rung = 0
        self._padding: Padding | None = None
        if self._buckets:
            self._padding = Padding(self.model.manifest.inputs, self._inputs, self._buckets)
            for session in (self._session, *filter(None, self._ladder_sessions)):
                self._padding.warm(session, self._output_arrays(events), events)

    def set_counter(self, counter: Array) -> None:
        """Count events with a truncated list in `counter`, uint64 (1,), from now on."""
        if self._padding is not None:
            self._padding.truncated = counter

    def set_rung(self, rung: int) -> bool:
        """Use a rung from now on; return whether it has a model."""
        self._rung = min(rung, len(self._ladder_models))
        return not self._rung or self._ladder_models[self._rung - 1] is not None

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the model's outputs."""
        outputs = self._output_arrays(batch.events)
        session = self._ladder_sessions[self._rung - 1] if self._rung else self._session
        if session is None:
            for array in outputs.values():
                array.fill(0)
        elif batch.events and self._padding is not None:
            self._padding.infer(session, batch, outputs)
        elif batch.events:
            inputs = {tensor: batch[column] for tensor, column in self._inputs.items()}
            session.infer(inputs, outputs)
        return batch.with_columns(**{self._outputs[t]: array for t, array in outputs.items()})

    def close(self) -> None:
        """Free the models."""
        for session in (*self._sessions.values(), *self._ladder_sessions):
            if session is not None:
                session.close()

    def check_swap(self, model: Model) -> None:
        """Raise ModelError if a model has other tensors or another preprocessing."""
        old, new = self.model.manifest, model.manifest
        for kind, before, after in (
            ("inputs", old.inputs, new.inputs),
            ("outputs", old.outputs, new.outputs),
            ("preprocessing", old.preprocessing, new.preprocessing),
        ):
            if before != after:
                raise ModelError(
                    f"stage {self.name!r}: {kind}: expected those of {self.model.label}, "
                    f"{_describe(before)}, got those of {model.label}, {_describe(after)}",
                    hint="a model with other inputs or outputs needs a new run",
                )

    def prepare(self, epoch: int, model: Model) -> None:
        """Load, check and warm up a model for batches from `epoch` on."""
        self.check_swap(model)
        where = f"stage {self.name!r}"
        session = open_verified_session(model, self._backend, where, self._events)
        for events in (1, self._events):
            outputs = {t.name: t.column.empty(events) for t in model.manifest.outputs}
            if self._buckets:  # with its own buffers, because `process` runs in another thread
                padding = Padding(model.manifest.inputs, self._inputs, self._buckets)
                padding.warm(session, outputs, events)
            else:
                inputs = {t.name: t.column.zeros(events) for t in model.manifest.inputs}
                session.infer(inputs, outputs)
        sessions = self._sessions
        current = max(known for known in sessions if known < epoch)
        self._sessions = {current: sessions[current], epoch: session}
        for known, stale in sessions.items():
            if known != current:
                stale.close()

    def discard(self, epoch: int) -> None:
        """Forget the models prepared for batches from `epoch` on."""
        stale = [session for known, session in self._sessions.items() if known >= epoch]
        self._sessions = {known: s for known, s in self._sessions.items() if known < epoch}
        for session in stale:
            session.close()

    def activate(self, epoch: int) -> None:
        """Use the model of an epoch from now on."""
        sessions = self._sessions
        self._session = sessions[max(known for known in sessions if known <= epoch)]

    def _output_arrays(self, events: int) -> dict[str, Array]:
        """Return an array (events, ...) for each output; valid until the next call."""
        return dict(zip(self._outputs, self._pool.arrays(events), strict=True))

    def _bucket_sizes(self, buckets: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the lengths to which the lists of each input are padded, ascending."""
        max_items = {t.name: t.max_items for t in self.model.manifest.inputs if t.max_items}
        where = f"stage {self.name!r}: buckets"
        for tensor, sizes in buckets.items():
            if tensor not in max_items:
                raise ConfigError(
                    f"{where}: model {self.model.label} takes no lists as {tensor!r}",
                    did_you_mean(tensor, max_items),
                )
            if not sizes or min(sizes) < 1 or max(sizes) > max_items[tensor]:
                raise ConfigError(
                    f"{where}: {tensor}: expected lengths of 1 to {max_items[tensor]}, got {sizes}"
                )
        return {
            t: tuple(sorted(set(buckets.get(t, (longest,))))) for t, longest in max_items.items()
        }

    def _ladder_model(self, label: str, ladder: tuple[str, ...]) -> Model | None:
        """Return the model of one rung, None for the last rung without a model."""
        if label == NO_MODEL:
            if ladder.index(label) != len(ladder) - 1:
                raise ConfigError(
                    f"stage {self.name!r}: ladder: expected {NO_MODEL!r} once and last, "
                    f"got {ladder}"
                )
            return None
        model = find_model(label)
        try:
            self.check_swap(model)
        except ModelError as error:
            raise ConfigError(f"ladder: {error.message}") from error
        return model

    def _require(self, mapped: dict[str, str], tensors: list[str]) -> None:
        for key in mapped.keys() - set(tensors):
            raise ConfigError(
                f"stage {self.name!r}: model {self.model.label} has no tensor {key!r}",
                did_you_mean(key, tensors),
            )

    def model_info(self) -> dict[str, str]:
        """Return name, version, sha256 and backend of the stage's own model."""
        return self._info(self.model)

    def models(self) -> tuple[tuple[Model, str], ...]:
        """Return the stage's own model and those of the lower rungs, with the backend."""
        models = (self.model, *filter(None, self._ladder_models))
        return tuple((model, self._backend) for model in models)

    def backends(self) -> tuple[str, ...]:
        """Return an empty tuple: any backend can run the model."""
        return ()

    def rung_models(self) -> dict[int, dict[str, str]]:
        """Return name, version, sha256 and backend of the model of each lower rung, by rung."""
        rungs = enumerate(self._ladder_models, 1)
        return {rung: self._info(model) for rung, model in rungs if model is not None}

    def _info(self, model: Model) -> dict[str, str]:
        manifest = model.manifest
        return {"name": manifest.name, "version": str(manifest.version),
                "sha256": manifest.digest, "backend": self._backend}  # fmt: skip


def _describe(part: tuple[Tensor, ...] | Preprocessing) -> str:
    """Return the text of tensors or a preprocessing in error messages."""
    if isinstance(part, Preprocessing):
        return part.kernel or "none"
    return ", ".join(f"{t.name} {t.column.spec} [{t.unit}] {' '.join(t.labels)}" for t in part)
