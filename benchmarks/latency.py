"""Latency against offered rate: a front end and a run, each a process, over real sockets.

Open loop: the front end sends at its rate whatever becomes of the events, and stamps each message
with the time at which it was due, so that the wait in front of a slow pipeline, or in a front end
that is late, counts.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.pipeline.config.durations import parse_duration
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.recording import RecordingWriter

Point = dict[str, Any]
_COMMAND = (sys.executable, "-c", "from sluice.pipeline.cli.main import main; main()")
_READY_S = 120.0
_END_S = 60.0
#: Below this share of the offered rate the front end itself was too slow.
_KEPT_UP = 0.98
#: Keys of a point with events that did not come to a decision.
_MISSING = ("lost", "shed", "dropped")


def measure_latency(
    events: EventBatch,
    schema: Schema,
    engines: Sequence[str],
    rates_hz: Sequence[float],
    duration_s: float,
    per_message: int,
    progress: Callable[[str, Point], None],
) -> dict[str, Any]:
    """Offer events to the hgcal graph at each rate, in a run of its own, up to the knee.

    Parameters
    ----------
    events, schema
        Events to send, and their schema.
    engines
        ``inline``: one process does it all. ``distributed``: ingest, one compute
        worker and the sink are processes.
    rates_hz
        Events a second, ascending; none after one at which something is missing or p50 is late.
    duration_s
        Time at each rate, s.
    per_message
        Events in a message.
    progress
        Called with the engine and each of its points.

    Returns
    -------
    dict
        ``engines``, by name: ``points``: rate offered and sent, quantiles of the latency to the
        decision, seconds (``latency_s``, from the time at which each message was due;
        ``ingest_latency_s``, from its receipt by ingest, which leaves out its wait in front),
        events by outcome, and those processed on a lower rung of the ladder (``narrowed``);
        ``knee_hz``: the highest rate at which the ledger closed, nothing was lost, shed, invalid,
        failed or narrowed, and p99 kept the graph's latency budget, 0 if none did. And
        ``conditions``.
    """
    budget_s = parse_duration(load_graph("hgcal").graph.latency_budget, "graph.latency_budget")
    conditions = {
        "latency_budget_s": budget_s,
        "seconds": duration_s,
        "per_message": per_message,
        **benchmark_conditions(),
    }
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with RecordingWriter(folder / "events.arrows", schema) as writer:
            writer.write(events)

        def climb(engine: str) -> dict[str, Any]:
            points: list[Point] = []
            for rate_hz in rates_hz:
                points.append(_measure(folder, engine, rate_hz, duration_s, per_message))
                progress(engine, points[-1])
                if _beyond(points[-1], budget_s):
                    break
            sound = (point["offered_hz"] for point in points if _sound(point, budget_s))
            return {"points": points, "knee_hz": max(sound, default=0.0)}

        found = {engine: climb(engine) for engine in engines}
    return {"engines": found, "conditions": conditions}


def _sound(point: Point, budget_s: float) -> bool:
    spoilt = sum(point[key] for key in (*_MISSING, "invalid", "failed", "narrowed"))
    kept_up = point["sent_hz"] >= _KEPT_UP * point["offered_hz"]
    in_time = bool(point["latency_s"]["p99"] <= budget_s)
    return point["closed"] and not spoilt and kept_up and in_time


def _beyond(point: Point, budget_s: float) -> bool:
    """Return whether higher rates would only be worse."""
    missing = sum(point[key] for key in _MISSING)
    late = point["latency_s"]["p50"] > budget_s
    return bool(missing) or late or point["sent_hz"] < _KEPT_UP * point["offered_hz"]


def _measure(
    folder: Path, engine: str, rate_hz: float, duration_s: float, per_message: int
) -> Point:
    endpoint = f"ipc://{folder}/ingest"
    report_file = folder / "report.json"
    with _running(_graph(folder, endpoint), engine, report_file) as run:
        sent = _sluice(
            "emulate", "--from", f"{folder}/events.arrows", "--to", endpoint, "--rate",
            str(rate_hz), "--seconds", str(duration_s), "--per-message", str(per_message), "--json",
            timeout_s=3 * duration_s + _END_S,
        )  # fmt: skip
        run.send_signal(signal.SIGTERM)
        run.wait(_END_S)
    said = msgspec.json.decode(sent)
    report = msgspec.json.decode(report_file.read_bytes())
    fates = {key: report["events"][key] for key in ("offered", "lost", "shed", "invalid", "failed")}
    batches = next(iter(report["stages"].values()))["batches"]
    return {
        "offered_hz": rate_hz,
        "sent_hz": said["events"] / said["seconds"],
        "latency_s": _quantiles(report["event_latency_s"]),
        "ingest_latency_s": _quantiles(report["latency_s"]),
        **fates,
        "dropped": said["dropped"],
        "narrowed": sum(report["ladder"]["events"][1:]),
        "events_a_batch": report["events"]["offered"] / max(1, batches),
        "closed": report["closed"],
    }


def _quantiles(latency_s: dict[str, Any]) -> dict[str, float]:
    return {key: latency_s[key] for key in ("p50", "p99", "p999", "max")}


@contextmanager
def _running(graph: Path, engine: str, report: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run, wait until it takes events, and see that it ends."""
    listen = f"127.0.0.1:{_free_port()}"
    run = subprocess.Popen(
        [*_COMMAND, "run", str(graph), "--engine", engine, "--report", str(report),
         "--http", listen, "--run", "0", "--force"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _READY_S
        while not _ready(listen):
            if run.poll() is not None or time.monotonic() > deadline:
                run.kill()
                raise RunError(f"the run to measure did not start: {run.communicate()[1].decode()}")
            time.sleep(0.1)
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.communicate()


def _graph(folder: Path, endpoint: str) -> Path:
    """Write the hgcal graph with its socket and its recording in `folder`."""
    tables = tomllib.loads(Path(load_graph("hgcal").origin).read_text(encoding="utf-8"))
    tables["source"]["listen"] = endpoint
    tables["sink"]["path"] = str(folder / "kept.arrows")
    path = folder / "graph.toml"
    path.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return path


def _ready(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/readyz", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _sluice(*arguments: str, timeout_s: float) -> bytes:
    done = subprocess.run([*_COMMAND, *arguments], capture_output=True, timeout=timeout_s)
    if done.returncode:
        raise RunError(f"sluice {arguments[0]}: {done.stderr.decode()}")
    return done.stdout
