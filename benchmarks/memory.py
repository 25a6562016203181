"""Memory of a run at full throughput, sampled once a minute."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.run.state import RunState
from sluice.pipeline.service.run_graph import raise_on_error, run_graph
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.sources.base import Source
from sluice.pipeline.system.process_stats import Usage, process_tree, usage

#: Repeats of the recording: more than any run reads.
_FOR_EVER = 1 << 40
_MINUTE_S = 60.0


class Sample(Struct, frozen=True):
    """Sample of a run: seconds since the first event, events processed, usage of each process."""

    at_s: float
    events: int
    processes: dict[str, Usage]


class _Sampler:
    """Samples the processes of a run every `step_s`, and stops the run after `samples` samples."""

    def __init__(self, samples: int, step_s: float) -> None:
        self._max_samples = samples
        self._step_s = step_s
        self._begun = 0.0
        self.samples: list[Sample] = []

    def __call__(self, control: RunState, account: RunAccounting, source: Source) -> None:
        """Take a sample if one is due; called often."""
        settled = account.snapshot().settled
        now = time.monotonic()
        self._begun = self._begun or (now if settled else 0.0)
        if len(self.samples) == self._max_samples or not settled:
            return
        if now - self._begun >= self._step_s * (len(self.samples) + 1):
            seen = {name: usage(pid) for name, pid in process_tree(os.getpid()).items()}
            held = {name: what for name, what in seen.items() if what is not None}
            self.samples.append(Sample(now - self._begun, settled, held))
            if len(self.samples) == self._max_samples:
                control.request_stop()


def measure_memory(
    events: EventBatch, schema: Schema, minutes: int, workers: int, minute_s: float = _MINUTE_S
) -> dict[str, Any]:
    """Run the hgcal graph as fast as it goes, recording accepted events, and sample its processes.

    Parameters
    ----------
    events, schema
        Events to process repeatedly, and their schema.
    minutes
        Number of samples of the processes.
    workers
        Compute workers.
    minute_s
        Time between two samples, s; shorter in tests.

    Returns
    -------
    dict
        ``minutes``: the samples; ``growth_mb``: process name to resident memory at the last sample
        less that at the first; ``rate_hz``, ``events``, ``restarts``, and the conditions.
    """
    conditions = benchmark_conditions()
    sampler = _Sampler(minutes, minute_s)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with RecordingWriter(folder / "in.arrows", schema) as writer:
            writer.write(events)
        graph = load_graph("hgcal")
        source = {"path": str(folder / "in.arrows"), "repeat": _FOR_EVER}
        sink = {**graph.sink.options, "path": str(folder / "out.arrows")}
        config = replace(
            graph,
            source=ComponentConfig("recording", "bench", source),
            sink=ComponentConfig("recording", "kept", sink),
            workers=replace(graph.workers, compute=workers),
        )
        report = run_graph(
            config, RunOptions(run=UNNUMBERED, engine="distributed", force=True), sampler
        )
    raise_on_error(report)
    samples = sampler.samples
    first, last = samples[0].processes, samples[-1].processes
    return {
        "minutes": msgspec.to_builtins(samples),
        "growth_mb": {
            name: last[name].rss_mb - first[name].rss_mb for name in first if name in last
        },
        "rate_hz": report["rate_hz"],
        "events": report["events"],
        "restarts": report["restarts"],
        "conditions": {"workers": workers, **conditions},
    }
