"""``sluice tune``: the fastest settings of a graph on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig, load_graph
from sluice.pipeline.core.errors import ConfigError

from .common.options import Force, Graph
from .common.output import print_json

_SUFFIX = ".arrows"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice tune hgcal --data wafers.arrows")(tune)


def tune(
    graph: Graph,
    data: Annotated[
        Path, typer.Option(help="Recording to measure with, of a million events or so.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write to this file; where runs look for it if omitted.")
    ] = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Measure backends, batch sizes and workers; runs of the graph on this machine use the best.

    Makes about ten runs of the recording. Kept events are not recorded.
    """
    from msgspec.structs import replace
    from rich.console import Console
    from rich.table import Table

    from sluice.pipeline.core.output_files import require_replaceable
    from sluice.pipeline.tools.autotune import is_tuned, measure, tuned_file, write_tuned

    if data.suffix != _SUFFIX:
        raise ConfigError(f"{data}: expected a recording that ends in {_SUFFIX}")
    config = load_graph(graph)
    path = out or tuned_file(config)
    require_replaceable(path, "tuned settings", is_tuned, force=force or out is None)
    unkept = replace(config, sink=ComponentConfig("null", "null", {}))
    console = Console(stderr=True, quiet=as_json)
    with console.status("measuring") as status:
        source = ComponentConfig("recording", str(data), {"path": str(data)})
        tuned = measure(unkept, source, lambda text: status.update(text))
    write_tuned(tuned, path)
    if as_json:
        print_json(tuned, indent=True)
        return
    table = Table("workers x events a batch", "events/s")
    for layout, rate in sorted(tuned.rates.items(), key=lambda item: -item[1]):
        table.add_row(layout, f"{rate:,.0f}")
    Console().print(table)
    for stage, costs in tuned.nanoseconds.items():
        shown = ", ".join(f"{backend} {ns:.0f} ns" for backend, ns in costs.items())
        Console().print(f"{stage}: {shown}")
    Console().print(f"written to {path}: runs of {tuned.graph!r} use it")


def tuned(config: GraphConfig) -> GraphConfig:
    """Return the graph with its tuned settings for this machine, if any, and print a note."""
    from sluice.pipeline.tools.autotune import apply, tuned_file

    config, message = apply(config, tuned_file(config))
    if message is not None:
        typer.echo(f"sluice: {message}", err=True)
    return config
