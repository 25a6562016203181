"""A graph, built and joined: every column checked before anything starts."""

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
from sluice.pipeline.stages.base import (
    BindsInputs,
    Decides,
    HasLadder,
    Monitor,
    RunsModel,
    Stage,
    Steps,
)

from .shadows import Shadow, build_shadows


@dataclass(frozen=True, slots=True)
class StageJoin:
    """One stage in its place: what it reads and adds there, or that it is bypassed."""

    stage: str
    use: str
    inputs: Schema
    outputs: Schema
    bypassed: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """Stages and monitors in order, with the columns that travel between processes.

    Attributes
    ----------
    inputs
        Columns that ingest gives to a worker: what stages, monitors and sink need of the source.
    outputs
        Columns that a worker gives to the sink.
    segment, elsewhere
        Of a segment of a chain: which it is, and the stages that other workers run.
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
        """Whether other workers go on with what comes of the stages, and not the sink."""
        return self.segment < len(self.config.workers.chain) - 1

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages, and those that other workers run."""
        return (*self.stages, *self.remote_stages)

    @property
    def ladders(self) -> list[Steps]:
        """The stages that have a ladder, whoever runs them."""
        return [stage for stage in self.all_stages if isinstance(stage, Steps)]

    def models(self) -> dict[str, dict[str, str]]:
        """Return name, version, sha256 and backend of each stage's model.

        The model of a lower rung of a ladder comes under the stage's name, a slash and the rung.
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
        return [path.name for stage in self.all_stages for path in getattr(stage, "paths", ())]

    @property
    def rungs(self) -> int:
        """LadderController of the longest ladder among the stages, 1 if there is none."""
        return max([1, *(stage.rungs for stage in self.ladders)])

    def derived_columns(self, stages: Iterable[str]) -> frozenset[str]:
        """Return the columns that these stages add, and all that others make of them."""
        names, made = set(stages), set[str]()
        for join in self.joins:
            if join.stage in names or made & set(join.inputs.names):
                made |= set(join.outputs.names) - {column.name for column in RESERVED}
        return frozenset(made)

    def decision_stage(self) -> Decides | None:
        """Return the stage that decides, whoever runs it; None where there is none."""
        return next((stage for stage in self.all_stages if isinstance(stage, Decides)), None)

    def report(self, events: int) -> dict[str, Any]:
        """Return what stages add to the run report after `events` events."""
        parts: dict[str, Any] = {}
        for stage in self.stages:
            if hasattr(stage, "report"):
                parts |= stage.report(events)
        return parts


def build_graph(config: GraphConfig, source: Schema, sink_columns: tuple[str, ...]) -> Graph:
    """Build each stage and monitor and join them to the columns of a source.

    A stage is bypassed when the source lacks a column that it reads but has all that it adds: a
    recording of charges enters a graph of chip words behind the unpacking.

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
        If a part cannot be built or a join does not fit: stage, column, expected and got.
    """
    available = source.merge((EVENT_ID, T_INGEST, OUTCOME, DECISION))
    stages, joins, parts, before = [], [], [], []
    for part in config.stages:
        stage: Stage = build("stage", part, config.origin)
        bypassed = _can_bypass(stage, available)
        reads = Schema() if bypassed else _connect(stage, available, config.origin)
        adds = Schema() if bypassed else stage.provides
        joins.append(StageJoin(stage.name, part.use, reads, adds, bypassed))
        if not bypassed:
            stages.append(stage)
            parts.append(part)
            before.append(available)
            available = available.merge(adds)
    monitors = [build("monitor", part, config.origin) for part in config.monitors]
    watched = [_connect(monitor, available, config.origin) for monitor in monitors]
    shadows = build_shadows(stages, parts, before, config.origin)
    available = available.merge(DECISION_RECORD_COLUMNS)
    for name in sink_columns:
        if name not in available:
            raise ConfigError(
                f"{config.origin}: sink: column {name!r} is not there at the end of the graph",
                did_you_mean(name, available.names),
            )
    outputs = Schema(available[name] for name in sink_columns)
    made_here = {column.name for join in joins for column in join.outputs}
    read = {c.name for join in joins for c in join.inputs} | {c.name for s in watched for c in s}
    kept = set(sink_columns) - {column.name for column in DECISION_RECORD_COLUMNS}
    if WAIT_NS.name in sink_columns:
        kept.add(T_INGEST.name)
    needed = (read | kept | {EVENT_ID.name}) & set(source.names)
    first_made = _overwritten_inputs(joins)
    inputs = source.select(needed - (made_here & first_made))
    return Graph(config, tuple(stages), tuple(monitors), shadows, tuple(joins), inputs, outputs)


def _overwritten_inputs(joins: list[StageJoin]) -> set[str]:
    """Return columns that a stage adds before any reads them: the source's own is not used."""
    read: set[str] = set()
    made: set[str] = set()
    for join in joins:
        read |= set(join.inputs.names) - made
        made |= set(join.outputs.names) - read
    return made


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
