"""Graphs: stages and monitors built from a graph file, with all columns joined and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError, did_you_mean
from sluice.pipeline.core.schema import (
    DECISION,
    DECISION_RECORD_COLUMNS,
    EVENT_ID,
    OUTCOME,
    RESERVED,
    T_INGEST,
    WAIT_NS,
    Column,
    Schema,
)
from sluice.pipeline.stages.base import Monitor, Stage
from sluice.pipeline.stages.capabilities import (
    BindsInputs,
    Decides,
    HasLadder,
    Reports,
    RunsModel,
)

from .shadows import Shadow, build_shadows


@dataclass(frozen=True, slots=True)
class StageJoin:
    """A stage within a graph.

    Attributes
    ----------
    stage, use
        Name of the stage, and name of its component.
    inputs, outputs
        Columns that it reads and adds; none if it is bypassed.
    bypassed
        Whether the stage does not run because the source has its outputs already.
    """

    stage: str
    use: str
    inputs: Schema
    outputs: Schema
    bypassed: bool


@dataclass(kw_only=True, frozen=True, slots=True)
class Graph:
    """Stages and monitors in order, with the columns that are sent between processes.

    Attributes
    ----------
    config
        The graph file.
    stages, monitors, shadows
        Stages that run, monitors, and shadow models, in order; without bypassed stages.
    joins
        Inputs and outputs of every stage, also of bypassed ones and of other segments.
    inputs
        Columns that ingest sends to a worker: those of the source that stages, monitors and sink
        need.
    outputs
        Columns that a worker sends to the sink.
    segment
        Number of this segment of the chain of workers, from 0.
    remote_stages
        Stages of the other segments.
    """

    config: GraphConfig
    stages: tuple[Stage, ...]
    monitors: tuple[Monitor, ...]
    shadows: tuple[Shadow, ...]
    joins: tuple[StageJoin, ...]
    inputs: Schema
    outputs: Schema
    segment: int = 0
    remote_stages: tuple[Stage, ...] = ()

    @property
    def has_next_segment(self) -> bool:
        """Whether the outputs go to workers of the next segment, not to the sink."""
        return self.segment < len(self.config.workers.chain) - 1

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages of this segment, then those of the others."""
        return (*self.stages, *self.remote_stages)

    @property
    def ladders(self) -> list[HasLadder]:
        """The stages that have a ladder, in any segment."""
        return [stage for stage in self.all_stages if isinstance(stage, HasLadder)]

    def models(self) -> dict[str, dict[str, str]]:
        """Return name, version, sha256 and backend of each stage's model.

        The key of a lower rung's model is the stage's name, a slash and the rung.
        """
        found = {s.name: s.model_info() for s in self.stages if isinstance(s, RunsModel)}
        for stage in self.stages:
            rungs = stage.rung_models() if isinstance(stage, HasLadder) else {}
            found |= {f"{stage.name}/{rung}": info for rung, info in rungs.items()}
        return found

    def meter_names(self) -> tuple[list[str], list[str]]:
        """Return the names of stages and monitors, in order."""
        return [stage.name for stage in self.stages], [monitor.name for monitor in self.monitors]

    def shadow_names(self) -> list[str]:
        """Return the names of the shadows, in order."""
        return [shadow.name for shadow in self.shadows]

    def paths(self) -> list[str]:
        """Return the names of the menu's paths, in the order of their bits."""
        stages = [stage for stage in self.all_stages if isinstance(stage, Decides)]
        return [name for stage in stages for name in stage.path_names()]

    @property
    def rungs(self) -> int:
        """Number of rungs of the longest ladder among the stages, 1 if there is none."""
        return max([1, *(stage.rungs for stage in self.ladders)])

    def derived_columns(self, stages: Iterable[str]) -> frozenset[str]:
        """Return the columns of these stages, and those that later stages derive from them."""
        names, derived = set(stages), set[str]()
        for join in self.joins:
            if join.stage in names or derived & set(join.inputs.names):
                derived |= set(join.outputs.names) - {column.name for column in RESERVED}
        return frozenset(derived)

    def decision_stage(self) -> Decides | None:
        """Return the stage that decides, in any segment; None if there is none."""
        return next((stage for stage in self.all_stages if isinstance(stage, Decides)), None)

    def report(self, events: int) -> dict[str, Any]:
        """Return the keys that stages add to the report of a run of `events` events."""
        entries: dict[str, Any] = {}
        for stage in self.stages:
            if isinstance(stage, Reports):
                entries |= stage.report(events)
        return entries


def build_graph(config: GraphConfig, source: Schema, sink_columns: tuple[str, ...]) -> Graph:
    """Build the stages and monitors of a graph and check all columns, from the source to the sink.

    A stage is bypassed when the source lacks a column that it reads but has all that it adds: a
    recording of charges enters a graph for chip words after the unpacking.

    Parameters
    ----------
    config
        The graph file.
    source
        The columns of the source.
    sink_columns
        Names of the columns that the sink keeps; empty for none.

    Raises
    ------
    ConfigError
        If a component cannot be built, or a column is missing or of another dtype or shape.
    """
    available = source.merge((EVENT_ID, T_INGEST, OUTCOME, DECISION))
    stages, joins, components, before = [], [], [], []
    for component in config.stages:
        stage: Stage = build("stage", component, config.origin)
        bypassed = _can_bypass(stage, available)
        reads = Schema() if bypassed else _connect(stage, available, config.origin)
        adds = Schema() if bypassed else stage.provides
        joins.append(StageJoin(stage.name, component.use, reads, adds, bypassed))
        if not bypassed:
            stages.append(stage)
            components.append(component)
            before.append(available)
            available = available.merge(adds)
    monitors = [build("monitor", component, config.origin) for component in config.monitors]
    observed = [_connect(monitor, available, config.origin) for monitor in monitors]
    shadows = build_shadows(stages, components, before, config.origin)
    available = available.merge(DECISION_RECORD_COLUMNS)
    for name in sink_columns:
        if name not in available:
            raise ConfigError(
                f"{config.origin}: sink: column {name!r} is not there at the end of the graph",
                did_you_mean(name, available.names),
            )
    outputs = Schema(available[name] for name in sink_columns)
    read = {c.name for join in joins for c in join.inputs} | {c.name for s in observed for c in s}
    kept = set(sink_columns) - {column.name for column in DECISION_RECORD_COLUMNS}
    if WAIT_NS.name in sink_columns:
        kept.add(T_INGEST.name)
    needed = (read | kept | {EVENT_ID.name}) & set(source.names)
    inputs = source.select(needed - _overwritten_inputs(joins))
    return Graph(
        config=config,
        stages=tuple(stages),
        monitors=tuple(monitors),
        shadows=shadows,
        joins=tuple(joins),
        inputs=inputs,
        outputs=outputs,
    )


def _overwritten_inputs(joins: list[StageJoin]) -> set[str]:
    """Return the source's columns that a stage replaces before any stage reads them."""
    read: set[str] = set()
    added: set[str] = set()
    for join in joins:
        read |= set(join.inputs.names) - added
        added |= set(join.outputs.names) - read
    return added


def _can_bypass(stage: Stage, available: Schema) -> bool:
    lacks = any(column.name not in available for column in stage.consumes)
    has_all = all(column.name in available for column in stage.provides)
    return lacks and has_all and len(stage.provides) > 0


def _connect(stage: Stage | Monitor, available: Schema, origin: str) -> Schema:
    where = f"{origin}: {stage.name!r}"
    for column in stage.consumes:
        _check(column, available, where)
    return stage.connect(available) if isinstance(stage, BindsInputs) else stage.consumes


def _check(column: Column, available: Schema, where: str) -> None:
    if column.name not in available:
        raise ConfigError(
            f"{where}: column {column.name!r}: expected {column.spec}, got no such column",
            hint=f"columns here: {', '.join(available.names)}",
        )
    got = available[column.name]
    if (got.dtype, got.shape) != (column.dtype, column.shape):
        raise ConfigError(
            f"{where}: column {column.name!r}: expected {column.spec}, got {got.spec}"
        )
