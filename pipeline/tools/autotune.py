"""Measured batch size, workers and backends for a graph on this machine, kept in a file."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import (
    ComponentConfig,
    GraphConfig,
    override_backends,
)
from sluice.pipeline.config.strict import strict_convert
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.output_files import write_whole
from sluice.pipeline.graph.model_backends import model_stages
from sluice.pipeline.inference.repository import Model, find_model
from sluice.pipeline.inference.session import DEFAULT, open_session
from sluice.pipeline.run.run_numbers import UNNUMBERED, state_folder
from sluice.pipeline.service.run_graph import raise_unless_clean, run_graph
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.stages.capabilities import RunsModel
from sluice.pipeline.system.machine import processor

#: Batch sizes to measure, events; backends to measure; batch size for the time of a model, events,
#: and number of its calls.
BATCHES = (1024, 2048, 4096, 8192, 16384, 32768)
_BACKENDS = ("layers", DEFAULT)
_MODEL_EVENTS = 4096
_MODEL_CALLS = 20

Progress = Callable[[str], None]


class TuningResult(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Measured settings for one graph on one machine; the content of the file.

    Attributes
    ----------
    graph
        Name of the graph.
    fingerprint
        Digest of graph and machine; the file is used only for the same.
    batch_events, compute
        Values for the tables ``[graph]`` and ``[workers]``.
    backends
        Fastest backend, by stage.
    rates
        Events per second, by ``workers x batch_events``.
    nanoseconds
        Time per event of each model, ns, by stage and backend: the median of several calls.
    """

    graph: str
    fingerprint: str
    batch_events: int
    compute: int
    backends: dict[str, str]
    rates: dict[str, float]
    nanoseconds: dict[str, dict[str, float]]


def measure(config: GraphConfig, source: ComponentConfig, progress: Progress) -> TuningResult:
    """Measure a graph on a recording and return the fastest settings.

    First each model is measured on each backend that can run it, on one core; then the whole graph
    at several batch sizes with one worker per core, and at the best size with fewer workers.

    Parameters
    ----------
    config
        The graph.
    source
        Source of the events of each measurement, enough for a second or more.
    progress
        Called with the name of each measurement before it begins.
    """
    if config.workers.chain:
        raise ConfigError(
            f"{config.origin}: workers.chain: expected none, since workers are measured that run "
            "the whole chain each"
        )
    found = {}
    for name, stage in model_stages(config).items():
        progress(f"models of stage {name}")
        found[name] = dict(_models(stage))
    backends = {name: min(costs, key=costs.__getitem__) for name, costs in found.items() if costs}
    config = override_backends(replace(config, source=source), backends)
    cores = len(os.sched_getaffinity(0))
    rates: dict[tuple[int, int], float] = {}
    for batch in BATCHES:
        progress(f"{cores} workers, batches of {batch:,}")
        rates[cores, batch] = _rate(config, cores, batch)
    best = max(rates, key=rates.__getitem__)[1]
    for workers in range(1, cores):
        progress(f"{workers} workers, batches of {best:,}")
        rates[workers, best] = _rate(config, workers, best)
    compute, batch = max(rates, key=rates.__getitem__)
    return TuningResult(
        graph=config.graph.name, fingerprint=fingerprint(config), batch_events=batch,
        compute=compute, backends=backends, nanoseconds=found,
        rates={f"{workers}x{size}": rate for (workers, size), rate in rates.items()},
    )  # fmt: skip


def tuned_file(config: GraphConfig) -> Path:
    """Return the path of the file of a graph, in the folder of the run numbers."""
    return state_folder(config.run.state) / "tuned" / f"{config.graph.name}.toml"


def write_tuned(tuned: TuningResult, path: Path) -> None:
    """Write the settings to a file, in place of earlier ones; ConfigError if that fails."""
    try:
        write_whole(path, msgspec.toml.encode(tuned), replace=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror or error}") from error


def is_tuned(path: Path) -> bool:
    """Whether a file has the settings of some graph."""
    try:
        msgspec.toml.decode(path.read_bytes(), type=TuningResult)
    except (OSError, ValueError, msgspec.MsgspecError):
        return False
    return True


def apply(config: GraphConfig, path: Path) -> tuple[GraphConfig, str | None]:
    """Return the graph with the settings of its file, and a note on them; unchanged without a file.

    Raises
    ------
    ConfigError
        If the file exists and cannot be read.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return config, None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read: {error}", hint="remove it, or run `sluice tune` again"
        ) from error
    tuned = strict_convert(tables, TuningResult, str(path))
    if tuned.fingerprint != fingerprint(config):
        return (
            config,
            f"{path} is of another machine or graph, not used: `sluice tune` again",
        )
    table = replace(config.graph, batch_events=tuned.batch_events)
    workers = replace(config.workers, compute=tuned.compute)
    config = replace(config, graph=table, workers=workers)
    return override_backends(config, tuned.backends), f"tuned by {path}"


def fingerprint(config: GraphConfig) -> str:
    """Return a digest of the stages, their models, and the machine's processor and cores."""
    models = [stage.model_info()["sha256"] for stage in model_stages(config).values()]
    stages = [
        (part.use, {key: value for key, value in part.options.items() if key != "backend"})
        for part in config.stages
    ]
    facts = [stages, models, processor(), len(os.sched_getaffinity(0))]
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _models(stage: RunsModel) -> Iterator[tuple[str, float]]:
    """Yield each backend that can run a stage's model, and its time per event, ns."""
    info, takes = stage.model_info(), stage.backends()
    model = find_model(info["name"], int(info["version"]))
    for backend in dict.fromkeys((*_BACKENDS, info["backend"])):
        if takes and backend.partition(":")[0] not in takes:
            continue
        try:
            yield backend, _nanoseconds(model, backend)
        except ModelError:  # this backend cannot run it
            continue


def _nanoseconds(model: Model, backend: str) -> float:
    session = open_session(model, backend, "tune")
    golden, _ = model.golden()
    inputs = {name: np.resize(a, (_MODEL_EVENTS, *a.shape[1:])) for name, a in golden.items()}
    outputs = {t.name: t.column.empty(_MODEL_EVENTS) for t in model.manifest.outputs}
    times_ns = []
    for _ in range(_MODEL_CALLS):
        start = time.perf_counter_ns()
        session.infer(inputs, outputs)
        times_ns.append(time.perf_counter_ns() - start)
    session.close()
    return statistics.median(times_ns) / _MODEL_EVENTS


def _rate(config: GraphConfig, workers: int, batch: int) -> float:
    table = replace(config.graph, batch_events=batch)
    config = replace(config, graph=table, workers=replace(config.workers, compute=workers))
    report = run_graph(config, RunOptions(run=UNNUMBERED, engine="distributed"))
    raise_unless_clean(report)
    rate: float = report["rate_hz"]
    return rate
