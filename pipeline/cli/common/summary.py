"""Summary of a run for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import comparison

#: Outcomes that are printed even if no event has them.
_ALWAYS_SHOWN = ("offered", "accepted", "rejected", "shed", "lost")


def show(report: dict[str, Any], path: Path | None) -> None:
    """Print the main numbers of a report."""
    console = Console()
    events, seconds, latency = report["events"], report["seconds"], report["latency_s"]
    verdict = "[green]closed[/]" if report["closed"] else "[red]NOT CLOSED[/]"
    console.print(f"\n[bold]run {report['run']}[/] · graph {report['graph']} · ledger {verdict}")
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, number in events.items():
        if number or name in _ALWAYS_SHOWN:
            table.add_row(name, f"{number:,}")
    if report["resumed"]:
        table.add_row("before", f"{report['resumed']['events']:,} by previous attempts")
    table.add_row("rate", f"{report['rate_hz']:,.0f} events/s over {seconds['wall']:.2f} s")
    quantiles = ", ".join(f"{q} {latency[q] * 1e3:.2f}" for q in ("p50", "p99", "max"))
    table.add_row("latency", f"{quantiles} ms")
    table.add_row("restarts", _restarts(report["restarts"]))
    if len(report["ladder"]["events"]) > 1:
        table.add_row("ladder", _worst_rung(report["ladder"]))
    if "compression" in report:
        before, after = report["compression"]["bits_in"], report["compression"]["bits_out"]
        if after:
            table.add_row("compression", f"{before / after:.2f} : 1")
    if report.get("emd", {}).get("n"):
        mean, seen = report["emd"]["mean"], report["emd"]["n"]
        alarm = " [red]left the reference band[/]" if report["emd"].get("alarm") else ""
        table.add_row("EMD", f"{mean:.3f} mean of {seen:,} wafers{alarm}")
    console.print(table)
    _stages(console, report)
    for name, stage in report["stages"].items():
        if stage["not_finite"]:
            console.print(f"  NaN or infinity from {name}: {stage['not_finite']:,} events")
    for name, number in report["paths"].items():
        console.print(f"  path {name}: {number:,}", highlight=False)
    if report["paths"]:
        console.print(f"  pass-through alone: {report['pass_through']:,}", highlight=False)
    if "comparison" in report["output"]:
        comparison.print_comparison(report["output"]["comparison"], console)
    elif report["output"]:
        console.print(f"  kept events: {report['output']['path']}", highlight=False)
    if report["quarantine"]["path"]:
        console.print(f"  quarantine:  {report['quarantine']['path']}", highlight=False)
    for reason, number in report["quarantine"]["reasons"].items():
        console.print(f"  refused {number:,}: {reason}", highlight=False, markup=False)
    if path is not None:
        console.print(f"  report:      {path}", highlight=False)


def _restarts(restarts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in restarts.items()) or "none"


def _worst_rung(ladder: dict[str, Any]) -> str:
    """Describe the lowest rung that the run used; rung 0 is the full models."""
    events, seconds = ladder["events"], ladder["seconds"]
    worst = max((rung for rung in range(len(events)) if events[rung] or seconds[rung]), default=0)
    if worst == 0:
        return "full models only"
    return f"worst rung {worst} of {len(events) - 1}, {events[worst]:,} events there"


def _stages(console: Console, report: dict[str, Any]) -> None:
    table = Table("stage", "batches", "service p50 / p99 [ms]", "model", box=None, padding=(0, 2))
    for name, stage in report["stages"].items():
        service = stage["service_s"]
        model = report["models"].get(name, {})
        table.add_row(
            name,
            f"{stage['batches']:,}",
            f"{service['p50'] * 1e3:.3f} / {service['p99'] * 1e3:.3f}",
            f"{model['name']} v{model['version']} {model['backend']}" if model else "",
        )
    for name in report["bypassed"]:
        table.add_row(name, "–", "bypassed: the source has what it makes", "")
    console.print(table)
