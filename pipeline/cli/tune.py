"""The command tune: what suits a graph on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig, load_graph
from sluice.pipeline.core.errors import ConfigError

_SUFFIX = ".arrows"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: sluice tune hgcal --data wafers.arrows")(tune)


def tune(
    graph: Annotated[str, typer.Argument(help="A graph that ships, or a TOML file.")],
    data: Annotated[Path, typer.Option(help="A recording to measure with, of a million events.")],
    out: Annotated[
        Path | None, typer.Option(help="Write there; else where runs look for it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Measure backends, batch sizes and workers; runs of the graph on this machine use the best.

    Takes some ten runs of the recording. What is kept of the events goes nowhere.
    """
    import msgspec
    from msgspec.structs import replace
    from rich.console import Console
    from rich.table import Table

    from sluice.pipeline.tools.autotune import measure as measure
    from sluice.pipeline.tools.autotune import tuned_file, write_tuned

    if data.suffix != _SUFFIX:
        raise ConfigError(f"{data}: expected a recording that ends in {_SUFFIX}")
    config = load_graph(graph)
    unkept = replace(config, sink=ComponentConfig("null", "null", {}))
    console = Console(stderr=True, quiet=as_json)
    with console.status("measuring") as status:
        source = ComponentConfig("recording", str(data), {"path": str(data)})
        tuned = measure(unkept, source, lambda text: status.update(text))
    path = out or tuned_file(config)
    write_tuned(tuned, path)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(tuned), indent=2).decode())
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
    """Return the graph as it was tuned for this machine, if it was; say so."""
    from sluice.pipeline.tools.autotune import apply, tuned_file

    config, word = apply(config, tuned_file(config))
    if word is not None:
        typer.echo(f"sluice: {word}", err=True)
    return config
