"""Benchmarks: ratios within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

#: Results of a benchmark, as printed in JSON.
Result = dict[str, Any]

#: Distinct wafers to simulate; a benchmark repeats them.
_DISTINCT = 131_072

bench = typer.Typer(no_args_is_help=True, help="Measure, as ratios within one run.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Measure, as ratios within one run."""


@bench.command(epilog="Example: sluice bench pipeline --json")
def pipeline(
    events: Annotated[int, typer.Option(min=10_000, help="Wafers a measurement.")] = 8_000_000,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Events a batch, else the graph's.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="The median of this many counts.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Measure 1 to this many workers.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the bare chain, the inline engine and the distributed engine, in turn."""
    from importlib.metadata import entry_points

    from .throughput import measure_pipeline

    (simulator,) = entry_points(group="sluice.simulators")
    wafers, _ = simulator.load()("wafers", _DISTINCT, 1)
    result = measure_pipeline(wafers, events, batch, repeats, workers)
    _print(result, _pipeline_table, as_json)


@bench.command(epilog="Example: sluice bench families --json")
def families(
    graph: Annotated[
        list[str] | None,
        typer.Option(help="A graph that names its family; may be repeated. All that ship if left."),
    ] = None,
    events: Annotated[int, typer.Option(min=1, help="Events a replay, at least.")] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay simulated events of each family through its graph."""
    from sluice.pipeline.cli.common.progress import progress_bar
    from sluice.pipeline.config.graph_file import load_graph

    from .families import family_graphs, measure_families

    graphs = [load_graph(name) for name in graph] if graph else family_graphs()
    with progress_bar(len(graphs), quiet=as_json) as update:
        done = iter(range(len(graphs)))
        result = measure_families(graphs, events, lambda name: update(next(done), name))
    _print(result, _families_table, as_json)


@bench.command(epilog="Example: sluice bench emd --json")
def emd(
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of wafers of each kind.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="The median of this many rounds.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure exact Earth mover's distance and its surrogates against POT, on one core."""
    from .emd import measure_emd

    result = measure_emd(pairs, repeats)
    _print(result, _emd_table, as_json)


@bench.command(epilog="Example: sluice bench memory --minutes 10 --json")
def memory(
    minutes: Annotated[int, typer.Option(min=2, help="How long, with a look a minute.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Compute workers.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run at full throughput; report the memory of each process every minute."""
    from importlib.metadata import entry_points

    from .memory import measure_memory

    (simulator,) = entry_points(group="sluice.simulators")
    wafers, schema = simulator.load()("wafers", _DISTINCT, 1)
    result = measure_memory(wafers, schema, minutes, workers)
    _print(result, _memory_table, as_json)


_RATES = (1e3, 5e3, 10e3, 20e3, 50e3, 75e3, 100e3, 150e3, 200e3)


@bench.command(epilog="Example: sluice bench latency --rate 1000 --rate 50000 --json")
def latency(
    rate: Annotated[
        list[float] | None,
        typer.Option(min=1, help="Events a second; once a rate, else 1,000 to 200,000."),
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="inline or distributed; once an engine, else both.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long, each rate.")] = 10,
    per_message: Annotated[int, typer.Option(min=1, help="Events in a message.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Offer events at rising rates; report latency, loss and shedding, up to the knee."""
    from importlib.metadata import entry_points

    from sluice.pipeline.cli.common.progress import progress_bar
    from sluice.pipeline.core.errors import ConfigError, did_you_mean
    from sluice.pipeline.service.daemon import ENGINES

    from .latency import measure_latency

    engines = engine or list(ENGINES)
    for name in engines:
        if name not in ENGINES:
            raise ConfigError(f"engine {name!r}: no such engine", did_you_mean(name, ENGINES))
    (simulator,) = entry_points(group="sluice.simulators")
    wafers, schema = simulator.load()("wafers", _DISTINCT, 1)
    rates = sorted(rate or _RATES)
    with progress_bar(len(engines) * len(rates), quiet=as_json) as update:
        done = 0

        def show(engine: str, point: dict[str, Any]) -> None:
            nonlocal done
            done += 1
            update(done, f"{engine}, {point['offered_hz']:,.0f} events/s")

        result = measure_latency(wafers, schema, engines, rates, seconds, per_message, show)
    _print(result, _latency_table, as_json)


def _print(
    result: Result, tables: Callable[[Result], Iterator[Table | str]], as_json: bool
) -> None:
    """Print a result as JSON, or as the tables and lines that `tables` makes of it."""
    import msgspec
    from rich.console import Console

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
        return
    console = Console()
    for part in tables(result):
        if isinstance(part, str):
            typer.echo(part)
        else:
            console.print(part)


def _pipeline_table(result: Result) -> Iterator[Table | str]:
    from rich.table import Table

    table = Table("", "events/s", "share of the bare chain")
    for name, rate in result["rates"].items():
        table.add_row(name, f"{rate:,.0f}", f"{result['ratios'][name]:.3f}")
    yield table


def _families_table(result: Result) -> Iterator[Table | str]:
    from rich.table import Table

    table = Table("graph", "family", "simulated/s", "inline/s", "distributed/s", "accepted")
    for row in result["families"]:
        rates = (f"{rate:,.0f}" for rate in (row["simulated_hz"], *row["rates"].values()))
        table.add_row(row["graph"], row["family"], *rates, f"{row['accepted']:.3f}")
    yield table


def _emd_table(result: Result) -> Iterator[Table | str]:
    from rich.table import Table

    table = Table("", "µs a pair", "POT's time over this")
    exact = {f"exact, {name}": kind for name, kind in result["exact"]["kinds"].items()}
    for name, row in {**exact, **result["surrogates"]}.items():
        table.add_row(
            name, f"{1e6 * row['seconds_per_pair']:.3g}", f"{row['speedup_over_pot']:.0f}"
        )
    yield table
    yield f"largest relative error of exact: {result['exact']['max_relative_error']:.1g}"


def _memory_table(result: Result) -> Iterator[Table | str]:
    from rich.table import Table

    names = list(result["growth_mb"])
    table = Table("minute", "events", *(f"{name} [MB]" for name in names))
    for minute, look in enumerate(result["minutes"], 1):
        held = (look["processes"].get(name) for name in names)
        cells = (f"{process['rss_mb']:.1f}" if process else "" for process in held)
        table.add_row(str(minute), f"{look['events']:,}", *cells)
    table.add_row("growth", "", *(f"{grown:+.1f}" for grown in result["growth_mb"].values()))
    yield table


def _latency_table(result: Result) -> Iterator[Table | str]:
    from rich.table import Table

    keys = ("p50", "p99", "p999")
    problems = ("lost", "shed", "dropped", "invalid", "failed")
    for name, found in result["engines"].items():
        table = Table(
            "events/s", *(f"{key} [ms]" for key in keys), "p99 from ingest [ms]", "events a batch",
            "without decision", "narrowed", title=name,
        )  # fmt: skip
        for point in found["points"]:
            times = (f"{1e3 * point['latency_s'][key]:.2f}" for key in keys)
            fates = f"{sum(point[key] for key in problems):,}", f"{point['narrowed']:,}"
            batch = f"{point['events_a_batch']:.1f}"
            ingest = f"{1e3 * point['ingest_latency_s']['p99']:.2f}"
            table.add_row(f"{point['offered_hz']:,.0f}", *times, ingest, batch, *fates)
        yield table
        yield f"{name}: knee at {found['knee_hz']:,.0f} events/s"
