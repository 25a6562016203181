"""Throughput and latency of every graph that ships, its models on the CPU and on each backend."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sluice.benchmarks.families import family_graphs
from sluice.benchmarks.throughput import memory
from sluice.pipeline.config.graph_file import (
    ComponentConfig,
    GraphConfig,
    load_graph,
)
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.graph.model_backends import override_backend
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import raise_on_error, run_graph
from sluice.pipeline.service.session import RunOptions

AS_IT_SHIPS = "as it ships"
_BACKENDS = (AS_IT_SHIPS, "onnxruntime:cuda", "onnxruntime:tensorrt", "tensorrt")
#: Graphs for GPUs only, and the family whose events they process.
_FOR_GPUS = {"hgcal-gpu": "wafers"}
#: Events to simulate for each family; jets take 20 ms each.
_DISTINCT = 512
#: Latency is measured at this share of the highest throughput, up to this rate, events per second.
_SHARE, _MAX_RATE_HZ = 0.5, 200_000.0
_SECONDS = 1.5
#: Events of the first run, from whose rate the number for `_SECONDS` follows; limit on that number.
_FIRST, _MAX_EVENTS = 1 << 13, 1 << 22


def main() -> int:
    """Measure; 1 if a graph did not run or its ledger did not close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--backends", nargs="*", default=list(_BACKENDS))
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    cells = [(graph, backend) for graph in family_graphs() for backend in options.backends]
    for graph, backend in cells + [(graph, AS_IT_SHIPS) for graph in _graphs_for_gpus()]:
        found.append(measure(graph, backend))
        print(found[-1], flush=True)
        options.json.write_text(json.dumps({"graphs": found}))
    return int(any(one["why"] for one in found))


def _graphs_for_gpus() -> Iterator[GraphConfig]:
    for name, family in _FOR_GPUS.items():
        graph = load_graph(name)
        yield replace(graph, graph=replace(graph.graph, family=family))


def measure(graph: GraphConfig, backend: str) -> dict[str, Any]:
    """Return throughput inline, and latency of one worker at a part of that rate."""
    about = {"graph": graph.graph.name, "backend": backend, "why": ""}
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-gpu-", dir=memory()) as folder:
            if backend != AS_IT_SHIPS:
                graph = override_backend(graph, backend)
            graph = _fed(graph, Path(folder))
            rate = _run(graph, _FIRST, "inline", None)["rate_hz"]
            whole = _run(graph, int(min(_MAX_EVENTS, rate * _SECONDS)), "inline", None)
            offered = min(_MAX_RATE_HZ, _SHARE * whole["rate_hz"])
            paced = _run(graph, int(offered * _SECONDS), "distributed", offered)
    except SluiceError as error:
        return about | {"why": str(error)}
    return about | {
        "rate_hz": whole["rate_hz"],
        "offered_hz": offered,
        "latency_s": paced["latency_s"],
        "stages": whole["stages"],
        "models": whole["models"],
    }


@cache
def _simulated(family: str) -> tuple[EventBatch, Schema]:
    (simulator,) = entry_points(group="sluice.simulators")
    made: tuple[EventBatch, Schema] = simulator.load()(family, _DISTINCT, 1)
    return made


def _fed(graph: GraphConfig, folder: Path) -> GraphConfig:
    """Return the graph with a source of simulated events, and a sink that keeps nothing."""
    batch, schema = _simulated(graph.graph.family)
    path = folder / "events.arrows"
    with RecordingWriter(path, schema, {"events": batch.events}, compression="none") as writer:
        writer.write(batch)
    source = ComponentConfig("recording", "events", {"path": str(path)})
    return replace(graph, source=source, sink=ComponentConfig("null", "null", {}))


def _run(graph: GraphConfig, events: int, engine: str, rate_hz: float | None) -> dict[str, Any]:
    repeat = max(1, -(-events // _DISTINCT))
    source = replace(graph.source, options={**graph.source.options, "repeat": repeat})
    report = run_graph(
        replace(graph, source=source), RunOptions(run=UNNUMBERED, engine=engine, rate_hz=rate_hz)
    )
    raise_on_error(report)
    return report


if __name__ == "__main__":
    sys.exit(main())
