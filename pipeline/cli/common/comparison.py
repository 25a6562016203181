"""Comparison of a replay with a recorded run: graph configuration, and output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console

from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig
from sluice.pipeline.journal.recorded_run import RecordedRun

#: Maximum number of differences to print; the JSON report lists more.
_SHOWN = 5


def configure(
    config: GraphConfig, run: Path, columns: list[str], max_differences: int
) -> GraphConfig:
    """Return the graph with the source ``same-batches`` and the sink ``comparison``.

    Parameters
    ----------
    config
        Graph with the input as its source.
    run
        Recording of the run.
    columns
        Columns to compare beside the decision.
    max_differences
        Number of differences to list.
    """
    records = RecordedRun(run).batch_records()
    source = {"run": str(run), "of": {"use": config.source.use, **config.source.options}}
    sink = {"run": str(run), "columns": columns, "most": max_differences}
    return replace(
        config,
        graph=replace(config.graph, batch_events=max(1, int(records["events"].max()))),
        source=ComponentConfig("same-batches", config.source.name, source),
        sink=ComponentConfig("comparison", "comparison", sink),
    )


def has_differences(report: dict[str, Any]) -> bool:
    """Whether the report has a comparison with differences."""
    return not report["output"].get("comparison", {}).get("same", True)


def print_comparison(comparison: dict[str, Any], console: Console) -> None:
    """Print the counts of a comparison and the first differences."""
    different = comparison["different"]
    verdict = "[green]the same decisions[/]" if comparison["same"] else "[red]DIFFERENT[/]"
    console.print(
        f"  same batches as run {comparison['run']}: {comparison['events']:,} events in "
        f"{comparison['batches']:,} batches, {verdict}",
        highlight=False,
    )
    if comparison["missing_batches"]:
        console.print(f"  not replayed: {comparison['missing_batches']:,} batches", highlight=False)
    for name, number in different.items():
        if number:
            console.print(f"  different {name}: {number:,}", highlight=False)
    recorded, here = comparison["menu"]
    if recorded != here:
        console.print(f"  menu: recorded {recorded}, here {here}", highlight=False)
    for stage, (recorded, here) in comparison["models"].items():
        was, now = (f"{m['name']} v{m['version']}" if m else "none" for m in (recorded, here))
        console.print(f"  model of {stage}: recorded {was}, here {now}", highlight=False)
    if len(comparison["epochs"]) > 1:
        console.print(f"  by epoch of the run's models: {comparison['epochs']}", highlight=False)
    for one in comparison["first"][:_SHOWN]:
        changed = ", ".join(
            f"{name} {pair[0]} → {pair[1]}" for name, pair in one.items() if isinstance(pair, list)
        )
        console.print(
            f"  batch {one['batch_seq']}, event {one['event_id']}: {changed}", highlight=False
        )
