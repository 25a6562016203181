"""Throughput of each family's graph: simulated events, replayed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.config.graph_file import ComponentConfig, GraphConfig, load_graph
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import raise_unless_clean, run_graph
from sluice.pipeline.service.session import RunOptions

from .throughput import memory

#: Events to simulate; they are replayed repeatedly.
_DISTINCT = 2_048
_SEED = 1


def family_graphs() -> list[GraphConfig]:
    """Return the graphs that ship and name the family whose events they process."""
    names = sorted(file.name for file in (files("sluice.pipeline") / "graphs").iterdir())
    graphs = [load_graph(n.removesuffix(".toml")) for n in names if n.endswith(".toml")]
    return [graph for graph in graphs if graph.graph.family]


def measure_families(
    graphs: list[GraphConfig], events: int, show: Callable[[str], None]
) -> dict[str, Any]:
    """Replay simulated events through each graph, inline and distributed with one worker.

    Parameters
    ----------
    graphs
        Graphs to measure; each names its family.
    events
        Smallest number of events of a replay; some are simulated and repeated.
    show
        Called with the name of each graph before it is measured.

    Returns
    -------
    dict
        ``families``: a list of family, graph, ``simulated_hz`` (events a second of the generator on
        one core), ``rates`` in events/s by engine, ``accepted`` (share) and ``closed``; and the
        conditions.
    """
    conditions, found = benchmark_conditions(), []
    for graph in graphs:
        show(graph.graph.name)
        with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=memory()) as folder:
            found.append(_measure(graph, events, Path(folder)))
    return {
        "families": found,
        "conditions": {
            "events": events,
            "distinct": min(events, _DISTINCT),
            **conditions,
        },
    }


def _measure(graph: GraphConfig, events: int, folder: Path) -> dict[str, Any]:
    (simulator,) = entry_points(group="sluice.simulators")
    sample = simulator.load()
    sample(graph.graph.family, 1, _SEED)  # kernels are compiled
    began = time.perf_counter()
    batch, schema = sample(graph.graph.family, min(events, _DISTINCT), _SEED)
    seconds = time.perf_counter() - began
    path = folder / "events.arrows"
    with RecordingWriter(path, schema, {"events": batch.events}, compression="none") as writer:
        writer.write(batch)
    source = {"path": str(path), "repeat": -(-events // batch.events)}
    graph = replace(graph, source=ComponentConfig("recording", "events", source))
    reports = {engine: _run(graph, engine, folder) for engine in ("inline", "distributed")}
    counts = reports["inline"]["events"]
    return {
        "family": graph.graph.family,
        "graph": graph.graph.name,
        "simulated_hz": batch.events / seconds,
        "rates": {engine: report["rate_hz"] for engine, report in reports.items()},
        "accepted": counts["accepted"] / counts["offered"],
        "closed": all(report["closed"] for report in reports.values()),
    }


def _run(graph: GraphConfig, engine: str, folder: Path) -> dict[str, Any]:
    sink = graph.sink
    if sink.use == "recording":
        sink = replace(sink, options={**sink.options, "path": str(folder / f"{engine}.arrows")})
    report = run_graph(
        replace(graph, sink=sink), RunOptions(run=UNNUMBERED, engine=engine, force=True)
    )
    raise_unless_clean(report)
    return report
