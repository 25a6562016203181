"""Cost of decision records: hgcal at batches of 4,096, with and without the record's columns.

Processor time of one thread, so that a busy machine matters little: ``decide`` and ``pack`` fall to
a worker, ``write`` to the sink.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import DECISION_RECORD_COLUMNS, EVENT_ID, T_EVENT, T_INGEST, Schema
from sluice.pipeline.detectors.wafer import WORDS
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.testing import split
from sluice.pipeline.transport.codec import Codec

EVENTS, DISTINCT, ROUNDS = 4096, 131_072, 11
Times = list[float]


class Variant:
    """From a batch to the disk, for one choice of columns."""

    def __init__(self, columns: tuple[str, ...], folder: Path) -> None:
        config = load_graph("hgcal")
        config = replace(config, graph=replace(config.graph, batch_events=EVENTS), monitors=())
        graph = build_graph(config, Schema((EVENT_ID, T_EVENT, T_INGEST, WORDS)), columns)
        self.names = graph.inputs.names
        self.chain = Chain(graph, MeterBlock(*graph.meter_names()), "accepted")
        self.chain.open()
        self.codec = Codec(graph.outputs)
        self.writer = RecordingWriter(folder / f"{len(columns)}.arrows", graph.outputs)

    def measure(self, batches: list[EventBatch]) -> Times:
        """Return microseconds a batch: decide, pack, write."""
        spent = np.zeros(3)
        for batch in batches:
            batch = batch.select(self.names)
            clock = [time.thread_time()]
            kept, _ = self.chain.run(batch, 0)
            clock.append(time.thread_time())
            self.codec.pack(kept)
            clock.append(time.thread_time())
            self.writer.write(kept)
            clock.append(time.thread_time())
            spent += np.diff(clock)
        per_batch_us: list[float] = (1e6 * spent / len(batches)).tolist()
        return per_batch_us

    def close(self) -> int:
        """Return the bytes written."""
        self.chain.close()
        self.writer.close()
        return self.writer.path.stat().st_size


def main() -> None:
    """Print medians over rounds in turn, and the size of the recordings."""
    (simulator,) = entry_points(group="sluice.simulators")
    wafers, _ = simulator.load()("wafers", DISTINCT, 1)
    now = np.full(DISTINCT, time.monotonic_ns())
    batches = list(split(wafers.with_columns(t_ingest=now), EVENTS))
    full = tuple(load_graph("hgcal").sink.options["columns"])
    plain = tuple(
        name for name in full if name not in {column.name for column in DECISION_RECORD_COLUMNS}
    )
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        variants = {"without": Variant(plain, Path(folder)), "with": Variant(full, Path(folder))}
        rounds: dict[str, list[Times]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, variant in variants.items():
                rounds[name].append(variant.measure(batches))
        print("µs a batch     decide     pack    write    bytes")
        for name, variant in variants.items():
            medians = [statistics.median(part) for part in zip(*rounds[name], strict=True)]
            print(f"{name:12}", *(f"{value:8.1f}" for value in medians), f"{variant.close():8,}")


if __name__ == "__main__":
    main()
