"""``sluice run``: a graph on its own source."""

from __future__ import annotations

from typing import Annotated

import typer

from sluice.pipeline.cli.common.launch import (
    fork_server_for,
    run_once,
    serve,
    with_backend,
    with_overrides,
)
from sluice.pipeline.cli.common.options import (
    Backend,
    Engine,
    Http,
    Json,
    Out,
    Quarantine,
    Reference,
    Report,
    Resume,
    RunNumber,
    Workers,
)
from sluice.pipeline.cli.common.output_files import require_run_number_in_paths
from sluice.pipeline.config.graph_file import GraphConfig, load_graph


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice run hgcal --report run.json")(run)


def run(
    graph: Annotated[str, typer.Argument(help="A graph that ships, or a TOML file.")],
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
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for start over HTTP, run after run, until SIGTERM.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a graph on its own source until SIGTERM; then drain and close."""
    from sluice.pipeline.service.session import RunOptions

    def load() -> GraphConfig:
        return with_overrides(with_backend(load_graph(graph), backend), out, workers)

    with fork_server_for(load_graph(graph), engine) as nursery:
        config = load()
        wishes = RunOptions(
            run_number, engine, http=http or config.http.listen, quarantine=quarantine,
            reference=reference, resume=resume,
        )  # fmt: skip
        if wait:
            require_run_number_in_paths(config, out, wishes, report)
            serve(load, wishes, report, nursery, as_json=as_json)
        else:
            run_once(config, wishes, report, nursery, as_json=as_json)
