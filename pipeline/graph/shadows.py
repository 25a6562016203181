"""Shadow models: run on a sample of the same events as a stage's model, without deciding.

A shadow processes a sample again, from its stage to the menu, in a separate thread. Samples are
dropped when its queue is full. A shadow that is slow or fails does not affect the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.core.schema import DECISION, EVENT_ID, OUTCOME, Array, Column, Schema
from sluice.pipeline.inference.repository import Model, find_model_by_label
from sluice.pipeline.metrics.shadow_meter import ShadowMeter
from sluice.pipeline.stages.base import Stage
from sluice.pipeline.stages.capabilities import BindsInputs, Decides, HasShadows, LoadsModels

#: Maximum number of events of earlier batches that a sample may hold beside one batch.
_EXTRA_EVENTS = 512
_NO_VALUES = np.empty(0, np.float32)


class Shadow:
    """A shadow model with its own stages; it is a monitor that returns no values.

    Parameters
    ----------
    stage
        Name of the stage whose model it is compared with.
    label
        Label of the shadow model, ``name`` or ``name@version``.
    components
        Tables of the graph file of the stage and of later stages.
    available
        Columns before the stage.
    origin
        Path of the graph file, for error messages.

    Raises
    ------
    SluiceError
        If there is no such model, its tensors differ, or no menu follows the stage.
    """

    metric, labels = "", dict[str, str]()

    def __init__(
        self,
        stage: HasShadows,
        label: str,
        components: Sequence[ComponentConfig],
        available: Schema,
        origin: str,
    ) -> None:
        model = find_model_by_label(label)
        stage.check_swap(model)
        version = model.manifest.version
        self.name = f"{components[0].name}/{model.manifest.name}@{version}"
        self.sample = stage.shadow_sample
        self.meter: ShadowMeter | None = None
        options = {"model": model.manifest.name, "version": version, "shadow": [], "ladder": []}
        own = replace(components[0], options=components[0].options | options)
        self._stages: list[Stage] = [build("stage", p, origin) for p in (own, *components[1:])]
        if not any(isinstance(s, Decides) for s in self._stages):
            raise ConfigError(f"{origin}: {self.name}: expected a menu after the stage, got none")
        self.consumes = self._connect(available, origin)
        self._off = False

    def _connect(self, available: Schema, origin: str) -> Schema:
        """Join the stages; return the columns of the processed batch that they read."""
        reads: dict[str, Column] = {}
        made: set[str] = set()
        for stage in self._stages:
            columns = stage.connect(available) if isinstance(stage, BindsInputs) else stage.consumes
            reads |= {c.name: c for c in columns if c.name not in made}
            made |= set(stage.provides.names)
            available = available.merge(stage.provides)
        changed = (reads.keys() & made) - {OUTCOME.name, DECISION.name}
        if changed:
            raise ConfigError(
                f"{origin}: {self.name}: column {min(changed)!r} is read and replaced after the "
                "stage: its earlier values are not kept for a shadow"
            )
        return Schema((EVENT_ID, OUTCOME, DECISION)).merge(reads.values())

    def models(self) -> tuple[tuple[Model, str], ...]:
        """Return the models that its stages load, with their backends."""
        stages = (stage for stage in self._stages if isinstance(stage, LoadsModels))
        return tuple(pair for stage in stages for pair in stage.models())

    def load(self, events: int) -> None:
        """Load and check the model and open the stages; raise if that fails."""
        for stage in self._stages:
            stage.open(events + _EXTRA_EVENTS)

    def open(self, events: int) -> None:
        """Load the model; if that fails, the shadow is off and the run continues."""
        try:
            self.load(events)
        except Exception as error:  # no error of a shadow may end the run
            self._fail(error)

    def observe(self, batch: EventBatch) -> Array:
        """Process the sample again and compare; after its first error the shadow is off."""
        meter = self.meter
        if meter is None:
            return _NO_VALUES
        if self._off:
            meter.skip(batch.events)
            return _NO_VALUES
        try:
            result = batch.with_columns(
                outcome=np.zeros(batch.events, np.uint8), decision=np.zeros(batch.events, np.uint64)
            )
            for stage in self._stages:
                result = stage.process(result)
            shadow = (result[DECISION.name], result[OUTCOME.name])
            meter.compare(batch[DECISION.name], batch[OUTCOME.name], shadow)
        except Exception as error:  # as in `open`
            self._fail(error)
            meter.skip(batch.events)
        return _NO_VALUES

    def close(self) -> None:
        """Free the model."""
        for stage in () if self._off else self._stages:
            stage.close()

    def _fail(self, error: Exception) -> None:
        self._off = True
        if self.meter is not None:
            self.meter.fail(f"{type(error).__name__}: {error}")


def build_shadows(
    stages: Sequence[Stage],
    components: Sequence[ComponentConfig],
    available: Sequence[Schema],
    origin: str,
) -> tuple[Shadow, ...]:
    """Return the shadows of all stages.

    Parameters
    ----------
    stages, components
        The stages that are not bypassed, and their tables of the graph file.
    available
        Columns before each stage.
    origin
        Path of the graph file, for error messages.
    """
    shadows = [
        Shadow(stage, label, components[index:], available[index], origin)
        for index, stage in enumerate(stages)
        if isinstance(stage, HasShadows)
        for label in stage.shadows
    ]
    names = [shadow.name for shadow in shadows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{origin}: two shadows are {twice}")
    return tuple(shadows)
