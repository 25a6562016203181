"""``sluice replay``: recorded events through a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from sluice.pipeline.cli.common.launch import (
    fork_server_for,
    run_once,
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
from sluice.pipeline.cli.common.output_files import accepted_path
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.tools.input_source import source_for


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice replay wafers.arrows --graph hgcal --report r.json")(replay)


def replay(
    source: Annotated[
        Path,
        typer.Argument(help="A recording (a file, a folder, a pattern), or a table's file."),
    ],
    graph: Annotated[str, typer.Option(help="A graph that ships, or a TOML file.")],
    report: Report = None,
    out: Out = None,
    quarantine: Quarantine = None,
    reference: Reference = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events a second; as fast as it goes if left.")
    ] = None,
    same_batches: Annotated[
        Path | None, typer.Option(help="Judge this run's batches again, compare the decisions.")
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
    as_json: Json = False,
) -> None:
    """Send recorded events through a graph."""
    from sluice.pipeline.cli.common.comparison import configure
    from sluice.pipeline.service.session import RunOptions

    if same_batches is not None and (rate or out or resume):
        raise ConfigError(
            "--same-batches: expected neither --rate nor --out nor --resume beside it"
        )
    with fork_server_for(load_graph(graph), engine) as nursery:
        config = with_backend(load_graph(graph), backend)
        config = replace(config, source=source_for(source, config))
        if same_batches is not None:
            config = configure(config, same_batches, compare or [], differences)
        config = with_overrides(config, out or accepted_path(source), workers)
        wishes = RunOptions(run_number, engine, rate, http, quarantine, reference, resume)
        run_once(config, wishes, report, nursery, as_json=as_json)
