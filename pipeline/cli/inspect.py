"""Commands that only read: check, inspect, models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.pipeline.cli.common.options import Backend, Engine, Graph, Reference, RunNumber
from sluice.pipeline.core.errors import EXIT_DAMAGED_INPUT

from .common.output import print_json, specs, table

if TYPE_CHECKING:
    from sluice.pipeline.tools.recording_summary import RecordingSummary
    from sluice.pipeline.tools.table_summary import TableSummary
    from sluice.pipeline.tools.validation import GraphCheck

#: Keys of the begin-of-run record that only `--json` shows: each is longer than a page.
_LONG = ("config", "models", "menu", "software")
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: sluice check hgcal")(check)
    app.command(epilog="Example: sluice inspect wafers.arrows")(inspect)
    app.command(epilog="Example: sluice models --json")(models)


def check(
    graph: Graph,
    source: Annotated[
        Path | None,
        typer.Option("--for", help="Check against the columns of this recording or table."),
    ] = None,
    reference: Reference = None,
    engine: Engine = "distributed",
    backend: Backend = None,
    run_number: RunNumber = None,
    as_json: _Json = False,
) -> None:
    """Check a graph without running it: options, every column, the outputs of every model."""
    from msgspec.structs import replace

    from sluice.pipeline.config.graph_file import load_graph
    from sluice.pipeline.service.session import RunOptions
    from sluice.pipeline.tools.input_source import source_for
    from sluice.pipeline.tools.validation import check_graph

    from .common.launch import with_backend

    config = with_backend(load_graph(graph), backend)
    if source is not None:
        config = replace(config, source=source_for(source, config))
    http = config.http.listen if source is None else None
    options = RunOptions(run=run_number, engine=engine, http=http, reference=reference)
    checked = check_graph(config, options)
    if as_json:
        print_json(checked)
    else:
        _print_check(checked)


def _print_check(checked: GraphCheck) -> None:
    from rich.console import Console

    rows = [
        (stage.name, stage.use, "bypassed", "")
        if stage.bypassed
        else (stage.name, stage.use, specs(stage.reads), specs(stage.adds))
        for stage in checked.stages
    ]
    rows += [(m.name, "monitor", specs(m.reads), m.metric) for m in checked.monitors]
    console = Console()
    console.print(table(("stage", "uses", "reads", "adds"), rows))
    for name, columns in (
        ("source → worker:", checked.inputs),
        ("worker → sink:  ", checked.outputs),
    ):
        console.print(f"{name} {specs(columns)}", highlight=False, soft_wrap=True)
    for note in checked.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print("[green]fine[/]: every join fits, every model gave its golden outputs")


def inspect(
    path: Annotated[Path, typer.Argument(help="A file, a folder of one recording, a pattern.")],
    as_json: _Json = False,
) -> None:
    """Show what a recording or a table holds, whether it is whole, and how a graph reads it."""
    from sluice.pipeline.tools.input_source import find_format

    use = find_format(path)
    damages = (
        _inspect_recording(path, as_json)
        if use == "recording"
        else (_inspect_tables(path, use, as_json))
    )
    for damage in filter(None, damages):
        typer.echo(f"sluice: damaged: {damage}", err=True)
    if any(damages):
        raise typer.Exit(EXIT_DAMAGED_INPUT)


def _inspect_recording(path: Path, as_json: bool) -> list[str | None]:
    from sluice.pipeline.tools.recording_summary import summarise_recording

    summary = summarise_recording(path)
    if as_json:
        print_json(summary)
    else:
        _print_recording(summary)
    return [summary.damage]


def _inspect_tables(path: Path, use: str, as_json: bool) -> list[str | None]:
    from sluice.pipeline.sources.tables.files import find_inputs
    from sluice.pipeline.tools.table_summary import summarise_tables

    summaries = [one for file in find_inputs(path) for one in summarise_tables(file, use)]
    if as_json:
        print_json(summaries)
    else:
        for summary in summaries:
            _print_table(summary)
    return [summary.damage for summary in summaries]


def _print_table(summary: TableSummary) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column

    console = Console()
    events = f"{summary.events:,} events" if summary.events is not None else "columns"
    table_name = f", tree {summary.table}" if summary.table else ""
    console.print(
        f"{summary.path}: {summary.format}{table_name}, {events}, {summary.bytes:,} bytes",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    rows = (
        (
            escape(column.name), escape(column.form),
            *("" if count is None else f"{count:,}" for count in (column.events, column.nulls)),
            escape(", ".join(column.first)), escape(column.problem or column.storage),
        )
        for column in summary.columns
    )  # fmt: skip
    first = Column("column", overflow="fold")  # a name that is cut short is of no use
    names = (first, "form", "events", "nulls", "first values", "storage, or why it is of no use")
    console.print(table(names, rows))
    source = f"in a graph:\n\n{summary.source}" if summary.source else "no graph can use a column"
    console.print(source, highlight=False, markup=False, soft_wrap=True)


def _print_recording(summary: RecordingSummary) -> None:
    from rich.console import Console

    console = Console()
    console.print(
        f"{summary.path}: {summary.events:,} events in {summary.batches:,} batches, "
        f"{summary.bytes:,} bytes",
        highlight=False,
    )
    for file in summary.files if len(summary.files) > 1 else ():
        console.print(f"  {file.path}: {file.events:,} events", highlight=False)
    rows = ((column.name, column.spec, column.unit) for column in summary.columns)
    console.print(table(("column", "form", "unit"), rows))
    begin = {key: value for key, value in summary.bor.items() if key not in _LONG}
    console.print(f"begin of run: {begin}", highlight=False, markup=False)
    console.print(f"end of run:   {summary.eor}", highlight=False, markup=False)


def models(as_json: _Json = False) -> None:
    """List the models of the repository with their cards; each file's hash is checked."""
    from sluice.pipeline.core.errors import ModelError
    from sluice.pipeline.inference.catalogue import read_catalogue

    found = read_catalogue()
    if as_json:
        print_json(found.models)
    else:
        _print_models(found.models)
    for refusal in found.refused:
        typer.echo(f"sluice: refused: {refusal}", err=True)
    if found.refused:
        raise typer.Exit(ModelError.exit_code)


def _print_models(cards: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column

    columns = (Column("model", no_wrap=True), "family", "precision", "inputs", "outputs", "bytes",
               "metrics \\[published]", "reference")  # fmt: skip
    Console().print(table(columns, map(_model_row, cards)), highlight=False)
    typer.echo("metrics: ours, on our data; in brackets what was published, not reproduced here")


def _model_row(card: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{card['name']}/{card['version']}",
        card["family"],
        card["precision"],
        ", ".join(tensor["name"] for tensor in card["inputs"]) + _blocks(card["fixed_batch"]),
        ", ".join(tensor["name"] for tensor in card["outputs"]),
        f"{card['bytes']:,}",
        "\n".join(_measured(card["metrics"], card["card"]["published"])),
        card["card"]["reference"],
    )


def _blocks(events: int) -> str:
    """Describe the number of events that each call of a model takes; 0 for any number."""
    return f" (in blocks of {events})" if events else ""


def _measured(metrics: dict[str, float], published: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each metric with its standard error and the published numbers."""
    for name, value in metrics.items():
        if not name.endswith("_error"):
            error = f" ± {metrics[f'{name}_error']:.2g}" if f"{name}_error" in metrics else ""
            beside = (f" \\[{one['value']:.4g}]" for one in published if one["metric"] == name)
            yield f"{name} {value:.4g}{error}{''.join(beside)}"
