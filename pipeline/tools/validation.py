"""Checks of a run before it starts, and of a graph with all its models."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError, did_you_mean
from sluice.pipeline.core.schema import Column
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import Graph, build_graph
from sluice.pipeline.inference.session import require_backend
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import read_reference_bands
from sluice.pipeline.run.run_numbers import RunNumbers, state_folder
from sluice.pipeline.service.auth import HttpAuth
from sluice.pipeline.service.daemon import ENGINES
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.sources.base import Source
from sluice.pipeline.sources.live.source import LiveSource

from .model_checks import check_models, describe_blocks


class StageCheck(Struct, frozen=True):
    """One stage of a checked graph.

    Attributes
    ----------
    name, use
        Keys `name` and `use` of the graph file.
    bypassed
        Whether the stage does not run because the source has its columns.
    reads, adds
        Columns that it reads and adds; none if it is bypassed.
    """

    name: str
    use: str
    bypassed: bool
    reads: tuple[Column, ...]
    adds: tuple[Column, ...]


class MonitorCheck(Struct, frozen=True):
    """One monitor: its name, the columns it reads, and the metric that shows its values."""

    name: str
    reads: tuple[Column, ...]
    metric: str


class GraphCheck(Struct, frozen=True, kw_only=True):
    """A checked graph.

    Attributes
    ----------
    graph
        Name of the graph.
    stages, monitors
        Stages and monitors, in the order of the graph file.
    inputs, outputs
        Columns from the source to the workers, and from the workers to the sink.
    notes
        Sentences on what is slower than it could be.
    """

    graph: str
    stages: tuple[StageCheck, ...]
    monitors: tuple[MonitorCheck, ...]
    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    notes: tuple[str, ...]


def validate_run(config: GraphConfig, options: RunOptions) -> Graph:
    """Check that a run could start, without opening sockets or using a run number.

    A source whose columns are known only from its input is opened, then closed. Every model is
    loaded and its outputs are checked.

    Parameters
    ----------
    config
        Graph with the source and sink of the run.
    options
        Run options.

    Returns
    -------
    Graph
        The graph, built and checked.

    Raises
    ------
    SluiceError
        If the run could not start; the message has the reason.
    """
    if options.engine not in ENGINES:
        raise ConfigError(
            f"engine {options.engine!r}: no such engine", did_you_mean(options.engine, ENGINES)
        )
    graph = _join(config, options)
    for part in config.stages:
        backend = part.options.get("backend")
        if isinstance(backend, str):
            require_backend(backend, f"{config.origin}: stage {part.name!r}")
    if options.http is not None:
        HttpAuth(options.http, config.http.token_file)
    if options.reference is not None:
        read_reference_bands(Path(options.reference), [part.name for part in config.monitors])
    if not options.resume:
        RunNumbers(state_folder(config.run.state)).require_free(options.run)
    check_models(graph)
    return graph


def _join(config: GraphConfig, options: RunOptions) -> Graph:
    source: Source = build("source", config.source, config.origin)
    if options.resume and isinstance(source, LiveSource):
        raise ConfigError(
            "--resume: expected a source that reads a file, got a live one",
            hint="what a live source gave is gone: start a new run",
        )
    if not len(source.schema):
        source.open()
        source.close()
    sink: Sink = build("sink", config.sink, config.origin)
    return build_graph(config, source.schema, sink.columns)


def check_graph(config: GraphConfig, options: RunOptions) -> GraphCheck:
    """Validate a run, then open and warm up all stages and monitors as a run does.

    Raises
    ------
    SluiceError
        If the run could not start, or a stage, shadow or monitor cannot be opened.
    """
    graph = validate_run(config, options)
    chain = Chain(graph, MeterBlock(*graph.meter_names(), shadows=graph.shadow_names()), "accepted")
    chain.open()
    chain.close()
    for shadow in graph.shadows:
        shadow.load(1)
        shadow.close()
    stages = tuple(
        StageCheck(join.stage, join.use, join.bypassed, tuple(join.inputs), tuple(join.outputs))
        for join in graph.joins
    )
    monitors = tuple(
        MonitorCheck(monitor.name, tuple(monitor.consumes), monitor.metric)
        for monitor in graph.monitors
    )
    return GraphCheck(
        graph=config.graph.name,
        stages=stages,
        monitors=monitors,
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        notes=describe_blocks(graph),
    )
