"""Run a model of the repository on columns."""

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
from sluice.pipeline.inference.session import DEFAULT, Session, open_session

from .padding import Padding

#: The foot of a ladder: no model, so that only what needs none decides.
NO_MODEL = "cuts"


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
        #: Models that judge the same events and decide nothing: ``NAME`` or ``NAME@VERSION``.
        shadow: tuple[str, ...] = ()
        #: Fraction of the events that they see.
        shadow_sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
        #: Tensor name to the lengths that its lists are padded to; its longest unless given.
        buckets: dict[str, tuple[int, ...]] = {}
        #: Models for when there is no time, from the better to the faster; ``cuts`` is none at all.
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
        self._ladder_models = [self._rung(step, options.ladder) for step in options.ladder]
        self.rungs = 1 + len(options.ladder)

    def open(self, events: int) -> None:
        """Load the models and hold each to its golden outputs."""
        self._events = events
        self._session: Session = open_session(self.model, self._backend, f"stage {self.name!r}")
        #: By the epoch from which on each is used.
        self._sessions = {0: self._session}
        self._pool = OutputBuffers(self.provides, events)
        #: From the second rung on; None where nothing is judged.
        self._ladder_sessions = [
            None if model is None else open_session(model, self._backend, f"stage {self.name!r}")
            for model in self._ladder_models
        ]
        self._step = 0
        self._padding: Padding | None = None
        if self._buckets:
            self._padding = Padding(self.model.manifest.inputs, self._inputs, self._buckets)
            for session in (self._session, *filter(None, self._ladder_sessions)):
                self._padding.warm(session, self._output_arrays(events), events)

    def set_counter(self, counter: Array) -> None:
        """Count events with lists that were cut in `counter` from now on; see `TruncatesLists`."""
        if self._padding is not None:
            self._padding.cut = counter

    def step(self, rung: int) -> bool:
        """Judge on a rung from now on; see `Steps`."""
        self._step = min(rung, len(self._ladder_models))
        return not self._step or self._ladder_models[self._step - 1] is not None

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the model's outputs."""
        outputs = self._output_arrays(batch.events)
        session = self._ladder_sessions[self._step - 1] if self._step else self._session
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
        """Refuse a model with other tensors or another preprocessing; see `SwapsModel`."""
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
                    hint="a model that reads or gives something else needs a new run",
                )

    def prepare(self, epoch: int, model: Model) -> None:
        """Load and warm a model for batches from `epoch` on; see `SwapsModel`."""
        self.check_swap(model)
        session = open_session(model, self._backend, f"stage {self.name!r}")
        for events in (1, self._events):
            outputs = {t.name: t.column.empty(events) for t in model.manifest.outputs}
            if self._buckets:  # its arrays are not those in which `process` has its own
                padding = Padding(model.manifest.inputs, self._inputs, self._buckets)
                padding.warm(session, outputs, events)
            else:
                inputs = {t.name: t.column.zeros(events) for t in model.manifest.inputs}
                session.infer(inputs, outputs)
        before = self._sessions
        kept = max(known for known in before if known < epoch)
        self._sessions = {kept: before[kept], epoch: session}
        for known, stale in before.items():
            if known != kept:
                stale.close()

    def activate(self, epoch: int) -> None:
        """Judge with the model of an epoch; see `SwapsModel`."""
        sessions = self._sessions
        self._session = sessions[max(known for known in sessions if known <= epoch)]

    def _output_arrays(self, events: int) -> dict[str, Array]:
        """Return arrays for the outputs of so many events; they hold until the next call."""
        return dict(zip(self._outputs, self._pool.arrays(events), strict=True))

    def _bucket_sizes(self, buckets: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the lengths to which the lists of each input are padded, rising."""
        most = {t.name: t.max_items for t in self.model.manifest.inputs if t.max_items}
        where = f"stage {self.name!r}: buckets"
        for tensor, sizes in buckets.items():
            if tensor not in most:
                raise ConfigError(
                    f"{where}: model {self.model.label} takes no lists as {tensor!r}",
                    did_you_mean(tensor, most),
                )
            if not sizes or min(sizes) < 1 or max(sizes) > most[tensor]:
                raise ConfigError(
                    f"{where}: {tensor}: expected lengths of 1 to {most[tensor]}, got {sizes}"
                )
        return {t: tuple(sorted(set(buckets.get(t, (longest,))))) for t, longest in most.items()}

    def _rung(self, step: str, ladder: tuple[str, ...]) -> Model | None:
        """Return the model of one step of the ladder, None for the cuts at its foot."""
        if step == NO_MODEL:
            if ladder.index(step) != len(ladder) - 1:
                raise ConfigError(
                    f"stage {self.name!r}: ladder: expected {NO_MODEL!r} once and last, "
                    f"got {ladder}"
                )
            return None
        model = find_model(step)
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
        """Return name, version, sha256 and backend."""
        return self._info(self.model)

    def rung_models(self) -> dict[int, dict[str, str]]:
        """Return the same of the model of each lower rung; see `HasLadder`."""
        rungs = enumerate(self._ladder_models, 1)
        return {rung: self._info(model) for rung, model in rungs if model is not None}

    def _info(self, model: Model) -> dict[str, str]:
        manifest = model.manifest
        return {"name": manifest.name, "version": str(manifest.version),
                "sha256": manifest.sha256, "backend": self._backend}  # fmt: skip


def _describe(what: tuple[Tensor, ...] | Preprocessing) -> str:
    """Return tensors or a preprocessing in words."""
    if isinstance(what, Preprocessing):
        return what.kernel or "none"
    return ", ".join(f"{t.name} {t.column.spec} [{t.unit}] {' '.join(t.labels)}" for t in what)
