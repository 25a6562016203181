"""The report of ``run.py`` as a Markdown table: ``table.py REPORT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def _number(value: float) -> str:
    for limit, unit, scale in ((1e6, " M", 1e6), (1e4, " k", 1e3)):
        if value >= limit:
            return f"{value / scale:.2f}{unit}"
    return f"{value:,.0f}"


def _row(name: str, entry: dict[str, Any], size: int) -> str:
    of_size = [r for r in entry["results"] if r["events_per_message"] == size]
    closed = [r for r in of_size if r["loop"] == "closed"]
    steady = next((r for r in of_size if r["loop"] == "open"), None)
    if not closed or steady is None:
        return ""
    best = max(closed, key=lambda r: r["events_per_s"])
    lost = sum(r["unanswered"] + r["errors"] for r in of_size)
    ms, at_best = steady["latency_ms"], best["latency_ms"]
    shown = [f"{v:.2f}" if v is not None else "–" for v in (ms["p50"], ms["p99"], at_best["p99"])]
    return (
        f"| {name} {entry['version']} | {size:,} | {_number(best['events_per_s'])} | "
        f"{best['in_flight']} | {shown[2]} | {shown[0]} | {shown[1]} | {lost or ''} |"
    )


def markdown(report: dict[str, Any]) -> str:
    """Return the table, and the peers that could not be measured with the reason."""
    sizes = sorted(
        {r["events_per_message"] for e in report["peers"].values() for r in e["results"]}
    )
    lines = [
        "| | events a message | events/s, the best | in flight | its p99 [ms] | p50 [ms] | "
        "p99 [ms] | lost |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sizes:
        rows = [(_row(name, entry, size), entry) for name, entry in report["peers"].items()]
        lines += [row for row, _ in rows if row]
    missing = [f"- {n}: {e['reason']}" for n, e in report["peers"].items() if e["reason"]]
    return "\n".join(lines + (["", *missing] if missing else []))


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
