"""``sluice run``: a graph on its own source."""

from __future__ import annotations

from typing import Annotated

import typer

from sluice.pipeline.config.graph_file import GraphConfig, load_graph

from .common.launch import (
    RunArguments,
    fork_server_for,
    run_once,
    serve,
    with_backend,
    with_overrides,
)
from .common.options import (
    Backend,
    Engine,
    Force,
    Graph,
    Http,
    Json,
    LogJson,
    LogLevel,
    Out,
    Quarantine,
    Reference,
    Report,
    Resume,
    RunNumber,
    Workers,
)
from .common.output_files import require_run_number_in_paths


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice run hgcal --report run.json")(run)


def run(
    graph: Graph,
    report: Report = None,
    out: Out = None,
    quarantine: Quarantine = None,
    reference: Reference = None,
    http: Http = None,
    engine: Engine = "distributed",
    workers: Workers = None,
    backend: Backend = None,
    run_number: RunNumber = None,
    resume: Resume = False,
    force: Force = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for start over HTTP and make run after run."),
    ] = False,
    log_level: LogLevel = None,
    log_json: LogJson = False,
    as_json: Json = False,
) -> None:
    """Run a graph on its own source until SIGTERM or Ctrl-C; then drain and close."""
    from sluice.pipeline.system.log import LogLevel as Level
    from sluice.pipeline.system.log import configure

    configure(log_level or Level.INFO, "ingest", as_json=log_json)
    arguments = RunArguments(
        report=report, out=out, quarantine=quarantine, reference=reference, http=http,
        engine=engine, workers=workers, backend=backend, run_number=run_number, resume=resume,
        force=force, as_json=as_json,
    )  # fmt: skip

    def load() -> GraphConfig:
        return with_overrides(with_backend(load_graph(graph), backend), out, workers)

    with fork_server_for(load_graph(graph), engine) as server:
        config = load()
        options = arguments.run_options(http=config.http.listen)
        if wait:
            require_run_number_in_paths(config, out, options)
            serve(load, options, arguments, server)
        else:
            run_once(config, options, arguments, server)
