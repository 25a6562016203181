"""``sluice replay``: recorded events through a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import ConfigError

from .common.launch import (
    RunArguments,
    fork_server_for,
    run_once,
    with_backend,
    with_overrides,
)
from .common.options import (
    Backend,
    Engine,
    Force,
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
from .common.output_files import accepted_path


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice replay wafers.arrows --graph hgcal --report r.json")(replay)


def replay(
    source: Annotated[
        Path,
        typer.Argument(help="A recording (a file, a folder, a pattern), or a table's file."),
    ],
    graph: Annotated[str, typer.Option(help="Name of a graph that ships, or a TOML file.")],
    report: Report = None,
    out: Out = None,
    quarantine: Quarantine = None,
    reference: Reference = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second; unlimited if omitted.")
    ] = None,
    same_batches: Annotated[
        Path | None,
        typer.Option(help="Process this run's batches again and compare the decisions."),
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Compare this column too; may be repeated.")
    ] = None,
    differences: Annotated[int, typer.Option(min=0, help="Differences to list.")] = 20,
    http: Http = None,
    engine: Engine = "distributed",
    workers: Workers = None,
    backend: Backend = None,
    run_number: RunNumber = None,
    resume: Resume = False,
    force: Force = False,
    log_level: LogLevel = None,
    log_json: LogJson = False,
    as_json: Json = False,
) -> None:
    """Send recorded events through a graph."""
    from sluice.pipeline.system.log import LogLevel as Level
    from sluice.pipeline.system.log import configure as start_log
    from sluice.pipeline.tools.input_source import source_for

    from .common.comparison import configure

    start_log(log_level or Level.WARNING, "ingest", as_json=log_json)
    arguments = RunArguments(
        report=report, out=out, quarantine=quarantine, reference=reference, http=http,
        engine=engine, workers=workers, backend=backend, run_number=run_number, resume=resume,
        force=force, as_json=as_json,
    )  # fmt: skip
    if same_batches is not None and (rate or out or resume):
        raise ConfigError(
            "--same-batches: expected neither --rate nor --out nor --resume beside it"
        )
    with fork_server_for(load_graph(graph), engine) as server:
        config = with_backend(load_graph(graph), backend)
        config = replace(config, source=source_for(source, config))
        if same_batches is not None:
            config = configure(config, same_batches, compare or [], differences)
        config = with_overrides(config, out or accepted_path(source), workers)
        run_once(config, arguments.run_options(rate_hz=rate), arguments, server)
