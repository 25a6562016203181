"""Commands that look and change nothing: check, inspect, models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sluice.pipeline.core.errors import EXIT_DAMAGED_INPUT
from sluice.pipeline.tools.input_source import source_for

#: Keys of the begin-of-run record that only `--json` shows.
_LONG = ("config", "models", "menu", "software")
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: sluice check hgcal")(check)
    app.command(epilog="Example: sluice inspect wafers.arrows")(inspect)
    app.command(epilog="Example: sluice models --json")(models)


def check(
    graph: Annotated[str, typer.Argument(help="A graph that ships, or a TOML file.")],
    source: Annotated[
        Path | None,
        typer.Option("--for", help="Check against this recording's or table's columns."),
    ] = None,
) -> None:
    """Build a graph, check every join and load every model, without running it."""
    from msgspec.structs import replace
    from rich.console import Console
    from rich.table import Table

    from sluice.pipeline.config.graph_file import load_graph
    from sluice.pipeline.config.plugins import build
    from sluice.pipeline.graph.graph import build_graph

    config = load_graph(graph)
    if source is not None:
        config = replace(config, source=source_for(source, config))
    origin = build("source", config.source, config.origin)
    if source is not None:
        origin.open()
        origin.close()
    sink = build("sink", config.sink, config.origin)
    built = build_graph(config, origin.schema, sink.columns)
    for stage in built.stages:
        stage.open(1)
        stage.close()
    for shadow in built.shadows:
        shadow.load(1)
        shadow.close()
    for watching in built.monitors:
        watching.open(1)
        watching.close()
    table = Table("stage", "uses", "reads", "adds")
    for join in built.joins:
        if join.bypassed:
            table.add_row(join.stage, join.use, "bypassed", "")
        else:
            table.add_row(join.stage, join.use, _forms(join.inputs), _forms(join.outputs))
    for monitor in built.monitors:
        table.add_row(monitor.name, "monitor", _forms(monitor.consumes), monitor.metric)
    console = Console()
    console.print(table)
    console.print(f"source → worker: {_forms(built.inputs)}", highlight=False, soft_wrap=True)
    console.print(f"worker → sink:   {_forms(built.outputs)}", highlight=False, soft_wrap=True)
    console.print("[green]fine[/]: every join fits, every model gave its golden outputs")


def inspect(
    recording: Annotated[Path, typer.Argument(help="A recording: a file, a folder, a pattern.")],
    as_json: _Json = False,
) -> None:
    """Tell what a recording holds, and whether it is whole."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from sluice.pipeline.recording import Recording

    reader = Recording(recording)
    files = {str(file): [0, 0] for file in reader.files}
    for batch in reader.batches():
        counts = files[str(reader.file)]
        counts[0] += 1
        counts[1] += batch.events
    reader.close()
    facts: dict[str, Any] = {
        "path": str(recording),
        "bytes": sum(file.stat().st_size for file in reader.files),
        "batches": sum(batches for batches, _ in files.values()),
        "events": sum(events for _, events in files.values()),
        "files": [
            {"path": name, "batches": batches, "events": events}
            for name, (batches, events) in files.items()
        ],
        "columns": [msgspec.to_builtins(column) for column in reader.schema],
        "bor": reader.bor,
        "eor": reader.eor,
        "whole": reader.corruption is None,
        "damage": reader.corruption,
    }
    if as_json:
        typer.echo(msgspec.json.encode(facts).decode())
    else:
        console = Console()
        console.print(
            f"{recording}: {facts['events']:,} events in {facts['batches']:,} batches, "
            f"{facts['bytes']:,} bytes",
            highlight=False,
        )
        if len(files) > 1:
            for name, (_, events) in files.items():
                console.print(f"  {name}: {events:,} events", highlight=False)
        table = Table("column", "form", "unit")
        for column in reader.schema:
            table.add_row(column.name, column.spec, column.unit)
        console.print(table)
        begin = {key: value for key, value in reader.bor.items() if key not in _LONG}
        console.print(f"begin of run: {begin}", highlight=False, markup=False)
        console.print(f"end of run:   {reader.eor}", highlight=False, markup=False)
    if reader.corruption:
        typer.echo(f"sluice: damaged: {reader.corruption}", err=True)
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def models(as_json: _Json = False) -> None:
    """List the models of the repository with their cards; each file's hash is checked."""
    import msgspec
    from rich.console import Console
    from rich.table import Column, Table

    from sluice.pipeline.core.errors import ModelError
    from sluice.pipeline.inference.repository import all_models, read_model

    cards: list[dict[str, Any]] = []
    broken: list[ModelError] = []
    for folder in all_models():
        try:
            model = read_model(folder)
        except ModelError as error:
            broken.append(error)
        else:
            cards.append(
                {**msgspec.to_builtins(model.manifest), "bytes": model.path.stat().st_size}
            )
    if as_json:
        typer.echo(msgspec.json.encode(cards).decode())
    else:
        table = Table(
            Column("model", no_wrap=True), "family", "precision", "inputs", "outputs", "bytes",
            "metrics \\[published]", "reference",
        )  # fmt: skip
        for card in cards:
            table.add_row(
                f"{card['name']}/{card['version']}",
                card["family"],
                card["precision"],
                ", ".join(tensor["name"] for tensor in card["inputs"]),
                ", ".join(tensor["name"] for tensor in card["outputs"]),
                f"{card['bytes']:,}",
                "\n".join(_measured(card["metrics"], card["card"]["published"])),
                card["card"]["reference"],
            )
        Console().print(table, highlight=False)
        typer.echo(
            "metrics are ours, on our data; published numbers stand beside them, not reproduced"
        )
    for refusal in broken:
        typer.echo(f"sluice: refused: {refusal}", err=True)
    if broken:
        raise typer.Exit(ModelError.exit_code)


def _measured(metrics: dict[str, float], published: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each metric with its spread between trainings and the published numbers."""
    for name, value in metrics.items():
        if not name.endswith("_spread"):
            spread = f" ± {metrics[f'{name}_spread']:.2g}" if f"{name}_spread" in metrics else ""
            beside = (f" \\[{one['value']:.4g}]" for one in published if one["metric"] == name)
            yield f"{name} {value:.4g}{spread}{''.join(beside)}"


def _forms(columns: Any) -> str:
    return ", ".join(f"{column.name} {column.spec}" for column in columns)
