"""One run of a graph: planned, driven through its engine, summed up."""

from __future__ import annotations

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
from sluice.pipeline.sources.base import SelectsColumns, Source
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.system.fork_server.client import ForkServer
from sluice.pipeline.system.run_directory import run_directory


class RunOptions(Struct, frozen=True):
    """What the command line asks of a run beside its graph.

    Attributes
    ----------
    run
        The run number; None for the next one, `UNNUMBERED` for one that is not remembered.
    engine
        ``inline`` or ``distributed``.
    rate_hz
        Slow the source down to this many events a second.
    http
        Serve HTTP there (``host:port``), None for not at all.
    quarantine
        Where refused events go, ``{run}`` stands for the run number; None only counts them.
    reference
        Report of a reference run: monitors that leave its bands raise an alarm.
    resume
        Go on with the run of which the sink has the beginning.
    """

    run: int | None
    engine: str = "distributed"
    rate_hz: float | None = None
    http: str | None = None
    quarantine: Path | None = None
    reference: Path | None = None
    resume: bool = False


def validate(config: GraphConfig) -> None:
    """Refuse a graph whose parts cannot be built and joined; nothing is left open."""
    source: Source = build("source", config.source, config.origin)
    if not len(source.schema):  # it learns its columns from its input
        source.open()
        source.close()
    sink: Sink = build("sink", config.sink, config.origin)
    build_graph(config, source.schema, sink.columns)


def open_run(
    config: GraphConfig,
    wishes: RunOptions,
    control: RunState,
    stack: ExitStack,
    nursery: ForkServer | None = None,
) -> RunContext:
    """Open the source and plan a run; what it opens is closed with `stack`."""
    source: Source = build("source", config.source, config.origin)
    source.open()
    stack.callback(source.close)
    if wishes.resume and source.socket is not None:
        raise ConfigError(
            "--resume: expected a source that reads a file, got a live one",
            hint="what a live source gave is gone: start a new run",
        )
    runtime = stack.enter_context(run_directory())
    plan = replace(_plan(config, wishes, source, control, runtime), nursery=nursery)
    stack.callback(plan.account.close)
    return plan


def _plan(
    config: GraphConfig, wishes: RunOptions, source: Source, control: RunState, runtime: Path
) -> RunContext:
    sink: Sink = build("sink", config.sink, config.origin)
    standing = sink.resume_point(wishes.run) if wishes.resume else None

    def built(config: GraphConfig) -> Graph:
        return build_graph(config, source.schema, sink.columns)

    graph = graph_with_swaps(config, standing, built) if standing else built(config)
    if isinstance(source, SelectsColumns):
        source.select_columns(graph.inputs.names, config.graph.batch_events)
    if standing is None:
        run = RunNumbers(state_folder(config.run.state)).allocate(wishes.run)
        bor = make_begin_of_run(config, graph, run)
    else:
        run, bor = int(standing.bor.get("run", 0)), standing.bor
        require_same_configuration(bor, make_begin_of_run(config, graph, run), standing.commit)
    refused = expand_run_number(wishes.quarantine, run)
    if standing is not None and refused is not None:  # the earlier life's stays as it is
        refused = refused.with_stem(f"{refused.stem}.from-{standing.commit.next}")
    account = RunAccounting(graph, run, Quarantine(refused, graph.inputs))
    if wishes.reference is not None:
        account.set_reference_bands(
            read_reference_bands(wishes.reference, [part.name for part in config.monitors])
        )
    commit = standing.commit if standing else None
    if commit is not None:
        account.resume(commit, swap_report(standing) if standing else [])
        skip_committed(source, commit.events, config.graph.batch_events, account)
    if wishes.rate_hz:
        source = PacedSource(source, wishes.rate_hz)
    return RunContext(graph, source, sink, account, control, bor, runtime, commit)


def finish_run(plan: RunContext, engine: Engine) -> dict[str, Any]:
    """Run a started engine to its end and make the report, whatever happens."""
    control, written = plan.control, {}
    hint = None
    plan.account.start(time.monotonic_ns())
    try:
        engine.run()
    except SluiceError as error:
        control.fail(error.message)
        hint = error.hint
    except BaseException:
        engine.finish()
        raise
    try:
        written = engine.finish()
    except SluiceError as error:
        control.fail(error.message)
        hint = hint or error.hint
    report = plan.account.snapshot().report()
    if not report["closed"]:
        control.fail(f"the ledger does not close: {report['events']}")
    if control.state is not State.ERROR:
        control.transition(State.STOPPED)
    report |= {"state": control.state.value, "error": control.cause, "hint": hint,
               "output": written, "damage": plan.source.corruption}  # fmt: skip
    return report
