"""Execution of one run, from its options to its report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError, DataError, ModelError, RunError
from sluice.pipeline.core.log import fields
from sluice.pipeline.core.output_files import CreatedFile
from sluice.pipeline.engine.base import Engine, RunContext, SinkReport
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
from sluice.pipeline.run.run_outputs import RunOutputs
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.sinks.base import Sink
from sluice.pipeline.sources.base import FixesRung, SelectsColumns, Source
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.system.fork_server.client import ForkServer
from sluice.pipeline.system.run_directory import run_directory

from .run_report import DescriptorReserve, check_account, make_report, write_report

_LOG = logging.getLogger("sluice.run")
#: Errors for which a start is refused; others are failures of the run.
_REFUSALS = (ConfigError, DataError, ModelError)


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
    report
        Path of the report, with ``{run}`` for the run number; None for no file.
    resume
        Whether to resume the interrupted run in the output of the sink.
    force
        Whether earlier outputs of Sluice are replaced.
    """

    run: int | None
    engine: str = "distributed"
    rate_hz: float | None = None
    http: str | None = None
    quarantine: Path | None = None
    reference: Path | None = None
    report: Path | None = None
    resume: bool = False
    force: bool = False

    def outputs(self, sink: Sink) -> RunOutputs:
        """Return the output files of a run: new ones, and in a resumed run those beside its sink.

        The report of an interrupted attempt is replaced by that of the whole run.
        """
        return RunOutputs(
            sink=None if self.resume else sink,
            report=self.report,
            quarantine=None if self.resume else self.quarantine,
            force=self.force or self.resume,
        )


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
    validated: Callable[[], None] = lambda: None,
) -> RunContext:
    """Open the source and return the context of a run; `stack` closes what is open.

    Parameters
    ----------
    config, options, control
        Graph, options and state of the run.
    stack
        Closes what is open.
    fork_server
        Fork server of the run; None if the engine starts its own.
    validated
        Called when everything is checked, before a run number is used and a file created.
    """
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
        _make_context(config, options, source, control, runtime, validated),
        fork_server=fork_server,
    )
    stack.callback(context.accounting.close)
    return context


def _make_context(
    config: GraphConfig, options: RunOptions, source: Source, control: RunState, runtime: Path,
    validated: Callable[[], None],
) -> RunContext:  # fmt: skip
    sink: Sink = build("sink", config.sink, config.origin)
    resumed = sink.resume_point(options.run) if options.resume else None

    def built(config: GraphConfig) -> Graph:
        return build_graph(config, source.schema, sink.columns)

    graph = graph_with_swaps(config, resumed, built) if resumed else built(config)
    if isinstance(source, SelectsColumns):
        source.select_columns(graph.inputs.names, config.graph.batch_events)
    bands = None
    if options.reference is not None:
        monitors = [part.name for part in config.monitors]
        bands = read_reference_bands(options.reference, monitors)
    outputs = options.outputs(sink)
    created: list[CreatedFile] = []
    validated()
    if resumed is None:
        numbers = RunNumbers(state_folder(config.run.state))
        run, created = outputs.claim(numbers, options.run)
        bor = make_begin_of_run(config, graph, run)
    else:
        run, bor = int(resumed.bor.get("run", 0)), resumed.bor
        require_same_configuration(bor, make_begin_of_run(config, graph, run), resumed.commit)
        outputs.require_replaceable(run)
    refused = expand_run_number(options.quarantine, run)
    if resumed is not None and refused is not None:  # the file of the previous attempt is kept
        refused = refused.with_stem(f"{refused.stem}.from-{resumed.commit.next}")
    accounting = RunAccounting(graph, run, Quarantine(refused, graph.inputs, force=outputs.force))
    if bands is not None:
        accounting.set_reference_bands(bands)
    commit = resumed.commit if resumed else None
    if commit is not None:
        accounting.resume(commit, swap_report(resumed) if resumed else [])
        skip_committed(source, commit.events, config.graph.batch_events, accounting)
    if options.rate_hz:
        source = PacedSource(source, options.rate_hz)
    return RunContext(
        graph=graph, source=source, sink=sink, accounting=accounting, control=control, bor=bor,
        run_directory=runtime, resumed=commit, created=tuple(created),
        fixes_rung=source if isinstance(source, FixesRung) else None,
    )  # fmt: skip


def start_engine(
    make: Callable[[RunContext], Engine], context: RunContext, options: RunOptions
) -> Engine:
    """Start the engine of a run and return it.

    A run whose engine fails to start has a report too, unless its configuration, input or models
    are refused.
    """
    try:
        engine = make(context)
        engine.start()
    except BaseException as error:
        for file in reversed(context.created):
            file.undo()
        if not isinstance(error, _REFUSALS):
            failure = RunError.of(error)
            context.control.fail(failure.message, failure.hint)
            save_report(context, make_report(context, {}), options)
        raise
    for file in context.created:
        file.keep()
    return engine


def save_report(context: RunContext, report: dict[str, Any], options: RunOptions) -> None:
    """Write the report to its file; if that fails the run is in ERROR, and so is its report."""
    try:
        write_report(report, options.report, replace=options.force or options.resume)
    except RunError as error:
        _LOG.error("%s", error.message, extra=fields("report-not-written"))
        context.control.fail(error.message)
        report["state"] = context.control.state.value
        report |= {"error": context.control.cause, "hint": context.control.hint}


def finish_run(context: RunContext, engine: Engine, in_loop: threading.Event) -> dict[str, Any]:
    """Run a started engine to its end and return the report, also if the run fails.

    Parameters
    ----------
    context, engine
        Context of the run, and the engine.
    in_loop
        Set while the main loop of the engine runs.
    """
    control = context.control
    accounting, sink = context.accounting, SinkReport()
    accounting.start(start_ns := time.monotonic_ns())
    reserve = DescriptorReserve()
    with recorded_failure(control):
        in_loop.set()
        engine.run()
    in_loop.clear()
    accounting.stop(end_ns := time.monotonic_ns())
    with recorded_failure(control):
        reserve.release(half=True)
        sink = engine.finish()
    with recorded_failure(control):
        if context.source.socket is not None:  # peers that come now would take what is released
            context.source.close()
    reserve.release()
    check_account(context, end_ns - start_ns, sink)
    if control.state is not State.ERROR:
        control.transition(State.STOPPED)
    return make_report(context, sink.output)


@contextmanager
def recorded_failure(control: RunState) -> Iterator[None]:
    """Record any exception as the cause of ERROR: whatever happens, the run gets its report."""
    try:
        yield
    except BaseException as error:
        _LOG.debug("the run failed", exc_info=error)
        failure = RunError.of(error)
        control.fail(failure.message, failure.hint)
