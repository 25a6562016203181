"""Execution of one run, from its options to its report."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError, SluiceError
from sluice.pipeline.engine.base import Engine, RunContext
from sluice.pipeline.graph.graph import Graph, build_graph
from sluice.pipeline.metrics.reference_band import read_reference_bands
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.begin_of_run import make_begin_of_run
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.run.resume import (
    graph_with_swaps,
    require_same_configuration,
    skip_committed,
    swap_report,
)
from sluice.pipeline.run.run_numbers import RunNumbers, expand_run_number, state_folder
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.sources.base import FixesRung, SelectsColumns, Source
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.system.fork_server.client import ForkServer
from sluice.pipeline.system.run_directory import run_directory


class RunOptions(Struct, frozen=True, kw_only=True):
    """Options of a run from the command line or the controller, beside the graph file.

    Attributes
    ----------
    run
        Run number; None for the next one, `UNNUMBERED` for a trial run without a number.
    engine
        ``inline`` or ``distributed``.
    rate_hz
        Rate to which the source is slowed down, events per second; None for no limit.
    http
        Address to serve HTTP at (``host:port``); None for no HTTP.
    quarantine
        Path of the quarantine, with ``{run}`` for the run number; None to count only.
    reference
        Path of the report of a reference run, for the bands of the monitors; None without.
    resume
        Whether to resume the interrupted run in the output of the sink.
    """

    run: int | None
    engine: str = "distributed"
    rate_hz: float | None = None
    http: str | None = None
    quarantine: Path | None = None
    reference: Path | None = None
    resume: bool = False


def validate(config: GraphConfig) -> None:
    """Raise SluiceError if components cannot be built or joined; nothing stays open."""
    source: Source = build("source", config.source, config.origin)
    if not len(source.schema):  # its columns are known only from its input
        source.open()
        source.close()
    sink: Sink = build("sink", config.sink, config.origin)
    build_graph(config, source.schema, sink.columns)


def open_run(
    config: GraphConfig,
    options: RunOptions,
    control: RunState,
    stack: ExitStack,
    fork_server: ForkServer | None = None,
) -> RunContext:
    """Open the source and return the context of a run; `stack` closes what is open."""
    source: Source = build("source", config.source, config.origin)
    source.open()
    stack.callback(source.close)
    if options.resume and source.socket is not None:
        raise ConfigError(
            "--resume: expected a source that reads a file, got a live one",
            hint="what a live source gave is gone: start a new run",
        )
    runtime = stack.enter_context(run_directory())
    context = replace(
        _make_context(config, options, source, control, runtime), fork_server=fork_server
    )
    stack.callback(context.accounting.close)
    return context


def _make_context(
    config: GraphConfig, options: RunOptions, source: Source, control: RunState, runtime: Path
) -> RunContext:
    sink: Sink = build("sink", config.sink, config.origin)
    resumed = sink.resume_point(options.run) if options.resume else None

    def built(config: GraphConfig) -> Graph:
        return build_graph(config, source.schema, sink.columns)

    graph = graph_with_swaps(config, resumed, built) if resumed else built(config)
    if isinstance(source, SelectsColumns):
        source.select_columns(graph.inputs.names, config.graph.batch_events)
    if resumed is None:
        run = RunNumbers(state_folder(config.run.state)).allocate(options.run)
        bor = make_begin_of_run(config, graph, run)
    else:
        run, bor = int(resumed.bor.get("run", 0)), resumed.bor
        require_same_configuration(bor, make_begin_of_run(config, graph, run), resumed.commit)
    refused = expand_run_number(options.quarantine, run)
    if resumed is not None and refused is not None:  # the file of the previous attempt is kept
        refused = refused.with_stem(f"{refused.stem}.from-{resumed.commit.next}")
    accounting = RunAccounting(graph, run, Quarantine(refused, graph.inputs))
    if options.reference is not None:
        accounting.set_reference_bands(
            read_reference_bands(options.reference, [part.name for part in config.monitors])
        )
    commit = resumed.commit if resumed else None
    if commit is not None:
        accounting.resume(commit, swap_report(resumed) if resumed else [])
        skip_committed(source, commit.events, config.graph.batch_events, accounting)
    if options.rate_hz:
        source = PacedSource(source, options.rate_hz)
    return RunContext(
        graph=graph, source=source, sink=sink, accounting=accounting, control=control, bor=bor,
        run_directory=runtime, resumed=commit,
        fixes_rung=source if isinstance(source, FixesRung) else None,
    )  # fmt: skip


def finish_run(context: RunContext, engine: Engine, in_loop: threading.Event) -> dict[str, Any]:
    """Run a started engine to its end and return the report, also if the run fails.

    Parameters
    ----------
    context, engine
        Context of the run, and the engine.
    in_loop
        Set while the main loop of the engine runs.
    """
    control, written = context.control, {}
    hint = None
    context.accounting.start(time.monotonic_ns())
    try:
        in_loop.set()
        engine.run()
    except SluiceError as error:
        control.fail(error.message)
        hint = error.hint
    except BaseException:
        engine.finish()
        raise
    finally:
        in_loop.clear()
    try:
        written = engine.finish()
    except SluiceError as error:
        control.fail(error.message)
        hint = hint or error.hint
    context.accounting.end()
    report = context.accounting.snapshot().report()
    if not report["closed"]:
        control.fail(f"the ledger does not close: {report['events']}")
    if control.state is not State.ERROR:
        control.transition(State.STOPPED)
    report |= {"state": control.state.value, "error": control.cause, "hint": hint,
               "output": written, "damage": context.source.corruption}  # fmt: skip
    return report
