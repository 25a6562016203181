"""``sluice run``: a graph on its own source."""

from __future__ import annotations

from typing import Annotated

import typer

from sluice.pipeline.cli.common.launch import judged, make_run, nursery_of, overridden, serve
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
from sluice.pipeline.cli.common.output_files import require_own_files
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
    from sluice.pipeline.service.session import Wishes

    def load() -> GraphConfig:
        return overridden(judged(load_graph(graph), backend), out, workers)

    with nursery_of(load_graph(graph), engine) as nursery:
        config = load()
        wishes = Wishes(
            run_number, engine, http=http or config.http.listen, quarantine=quarantine,
            reference=reference, resume=resume,
        )  # fmt: skip
        if wait:
            require_own_files(config, out, wishes, report)
            serve(load, wishes, report, nursery, as_json=as_json)
        else:
            make_run(config, wishes, report, nursery, as_json=as_json)
