"""What runs are made of: recordings, graphs, ports and faulty components; and a leak check."""

from __future__ import annotations

import json
import shutil
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import tomli_w

from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.recording import RecordingWriter

WORDS = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,), "link words")))

#: Of the package `faulty_components`.
ENTRY_POINTS = """
[sluice.stages]
test.delay = faulty_components:Delay
test.exhausting = faulty_components:Exhausting
test.slow = faulty_components:Slow
test.trap = faulty_components:Trap
test.broken = faulty_components:Broken
test.cold = faulty_components:Cold
test.poison = faulty_components:Poison
test.hang = faulty_components:Hang
test.spin = faulty_components:Spin
[sluice.monitors]
test.slow = faulty_components:SlowWatch
[sluice.sinks]
test.killed = faulty_components:KilledSink
[sluice.sources]
test.broken = faulty_components:BrokenSource
"""


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which a package registers misbehaving parts."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copy(Path(__file__).with_name("faulty_components.py"), folder)
    meta = folder / "faulty_components-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: sluice-test-parts\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped models, so that a training beside the tests does not change them."""
    folder = tmp_path_factory.mktemp("models")
    for model in Path(str(files("sluice.models"))).iterdir():
        if model.is_dir() and not model.name.startswith("_"):
            shutil.copytree(model, folder / model.name)
    return folder


@pytest.fixture(autouse=True)
def no_leaks_here(runtime_folder: Path) -> Iterator[None]:
    """A test leaves no thread, socket or child process behind."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    connections = len(me.net_connections())
    children = set(me.children())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in threads and t.name != "pytest_timeout"]
        more = len(me.net_connections()) - connections
        new = set(me.children()) - children
        if not left and more <= 0 and not new:
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: threads {left}, {more} sockets, children {new}")


@pytest.fixture(scope="session")
def make_recording() -> Callable[..., Path]:
    """Write simulated wafers (or other columns) as a recording."""

    def make(path: Path, events: int, *, seed: int = 7, batch: int = 1000, first: int = 1) -> Path:
        columns = simulate(events, seed)
        columns["event_id"] = np.arange(first, first + events, dtype=np.uint64)
        with RecordingWriter(path, WORDS, {"events": events}) as writer:
            for seq, start in enumerate(range(0, events, batch)):
                part = {name: columns[name][start : start + batch] for name in WORDS.names}
                writer.write(EventBatch(part, len(part["event_id"]), seq))
        return path

    return make


@pytest.fixture(scope="session")
def wafers(tmp_path_factory: pytest.TempPathFactory, make_recording: Callable[..., Path]) -> Path:
    """A recording of 20,000 simulated wafers, event ids from 1."""
    return make_recording(tmp_path_factory.mktemp("wafers") / "wafers.arrows", 20_000)


@pytest.fixture
def make_graph(tmp_path: Path) -> Callable[..., Path]:
    """Write a graph like hgcal with other numbers, more stages, or another sink."""

    def make(
        name: str = "test",
        *,
        first: list[dict[str, Any]] | None = None,
        last: list[dict[str, Any]] | None = None,
        **tables: dict[str, Any],
    ) -> Path:
        graph = tomllib.loads(Path(load_graph("hgcal").origin).read_text())
        for stage in graph["stage"]:
            stage.pop("ladder", None)  # decisions must not depend on the load of the machine
        graph["stage"] = [*(first or []), *graph["stage"], *(last or [])]
        for table, values in tables.items():
            if table == "monitor" or "use" in values:
                graph[table] = values
            else:
                graph[table] = graph.get(table, {}) | values
        path = tmp_path / f"{name}.toml"
        path.write_text(tomli_w.dumps(graph))
        return path

    return make


@pytest.fixture
def remove_run_folders(runtime_folder: Path) -> Callable[[], None]:
    """Remove the folders of runs that were killed, which the next run or boot would do."""

    def remove() -> None:
        for folder in runtime_folder.iterdir():
            shutil.rmtree(folder)

    return remove


@pytest.fixture
def free_port(reserve_port: Callable[[], int]) -> int:
    """The port of the run's HTTP pages, or of nobody."""
    return reserve_port()


@pytest.fixture
def endpoint(reserve_port: Callable[[], int]) -> str:
    """Where a live source may listen."""
    return f"tcp://127.0.0.1:{reserve_port()}"


@pytest.fixture
def live_graph(make_graph: Callable[..., Path], endpoint: str) -> Callable[..., Path]:
    """Write a graph as `make_graph` does, whose source listens at `endpoint`."""

    def make(
        name: str = "live", *, source: dict[str, Any] | None = None, **tables: dict[str, Any]
    ) -> Path:
        return make_graph(name, source={"listen": endpoint, **(source or {})}, **tables)

    return make


def _table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all().combine_chunks()


@pytest.fixture(scope="session")
def assert_same_recording() -> Callable[[Path, Path], int]:
    """Compare two recordings event by event, column by column, bit by bit; return the events.

    How results are grouped into record batches depends on time, and is not compared.
    """

    def bits(table: pa.Table, name: str) -> bytes:
        array = table.column(name).combine_chunks()
        values = array.values if pa.types.is_fixed_size_list(array.type) else array
        return np.asarray(values).tobytes()

    def compare(one: Path, other: Path) -> int:
        first, second = _table(one), _table(other)
        schema = first.schema.remove_metadata()
        assert schema.equals(second.schema.remove_metadata(), check_metadata=True)
        assert first.num_rows == second.num_rows
        for name in schema.names:
            assert bits(first, name) == bits(second, name), f"column {name}"
        return int(first.num_rows)

    return compare


@pytest.fixture(scope="session")
def load_report() -> Callable[[Path], dict[str, Any]]:
    """Read a report; what every report must fulfil is checked here, closed or not."""

    def load(path: Path) -> dict[str, Any]:
        report = json.loads(path.read_text())
        events, seconds = report["events"], report["seconds"]
        offered = events["offered"]
        assert report["closed"], report
        assert offered == sum(events.values()) - offered
        spent = sum(seconds[state] for state in ("live", "paused", "busy", "down"))
        assert seconds["wall"] == pytest.approx(spent, abs=1e-9)
        return report

    return load
