"""Real processes: the installed command, its children, recordings to feed it, and a leak check."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import tomli_w

from sluice.exporters.families.wafers.simulate import simulate
from sluice.pipeline.batch import EventBatch
from sluice.pipeline.config import load_graph
from sluice.pipeline.recording import RecordingWriter
from sluice.pipeline.schema import EVENT_ID, T_EVENT, Column, Schema

SLUICE = Path(sys.executable).with_name("sluice")
WORDS = Schema((EVENT_ID, T_EVENT, Column("words", "uint32", (12,), "link words")))

#: Of the package `sluice_test_parts`.
ENTRY_POINTS = """
[sluice.stages]
test.sleepy = sluice_test_parts:Sleepy
test.slow = sluice_test_parts:Slow
test.trap = sluice_test_parts:Trap
test.broken = sluice_test_parts:Broken
test.cold = sluice_test_parts:Cold
test.poison = sluice_test_parts:Poison
test.hang = sluice_test_parts:Hang
[sluice.monitors]
test.slow = sluice_test_parts:SlowWatch
[sluice.sources]
test.broken = sluice_test_parts:BrokenSource
"""


class Finished:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Command:
    """A ``sluice`` command that runs; its processes are known, so that leaks can be."""

    def __init__(
        self, arguments: list[str], folder: Path, env: dict[str, str], through: list[str]
    ) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [*through, str(SLUICE), *arguments],
            cwd=folder, env={**os.environ, "COLUMNS": "200", **env}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self.folder = folder
        self.family: set[psutil.Process] = set()

    def children(self) -> list[psutil.Process]:
        """Return its living child processes."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self.family |= set(found)
        return found

    def workers(self, role: str = "compute") -> list[psutil.Process]:
        """Return its living children of a role."""
        found = []
        for child in self.children():
            try:
                if title(child)[:2] == ["sluice", role]:
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = 60) -> Finished:
        """Wait for its end; it must neither hang nor show a traceback."""
        self.children()
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.end()
            out, err = self.process.communicate()
            pytest.fail(f"{self.arguments} did not end in {timeout} s\n{out}\n{err}")
        done = Finished(self.process.returncode, out, err)
        assert "Traceback" not in done.err + done.out, done
        return done

    def end(self) -> None:
        """Kill what is left of its session."""
        self.children()
        for process in [*self.family, psutil.Process(self.process.pid)] if self.alive else []:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(10)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


def title(process: psutil.Process) -> list[str]:
    """Return what a process shows as its command: role, and the path of its spec file."""
    return " ".join(process.cmdline()).split()


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which a package registers misbehaving parts."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copy(Path(__file__).with_name("sluice_test_parts.py"), folder)
    meta = folder / "sluice_test_parts-1.0.dist-info"
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


@pytest.fixture
def launch(tmp_path: Path, parts: Path, models: Path) -> Iterator[Callable[..., Command]]:
    """Start a ``sluice`` command in a folder of its own; what is left at the end is a failure."""
    commands: list[Command] = []

    def start(
        *arguments: object, env: dict[str, str] | None = None, through: Sequence[object] = ()
    ) -> Command:
        environment = {"PYTHONPATH": str(parts), "SLUICE_MODELS": str(models)}
        command = Command(
            [str(a) for a in arguments],
            tmp_path,
            environment | (env or {}),
            [str(a) for a in through],
        )
        commands.append(command)
        return command

    yield start
    left = [command.arguments for command in commands if command.alive]
    for command in commands:
        command.end()
        for stream in (command.process.stdout, command.process.stderr):
            if stream is not None:
                stream.close()
    assert not left, f"still running at the end of the test: {left}"
    deadline = time.monotonic() + 10
    while (orphans := [p for c in commands for p in c.family if _lives(p)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    for orphan in orphans:
        orphan.kill()
    assert not orphans, f"processes left behind: {orphans}"
    mine = {command.process.pid for command in commands}
    assert not (folders := _runtime_folders(mine)), f"left in /dev/shm: {folders}"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _runtime_folders(pids: set[int]) -> list[Path]:
    """Return the runtime folders of engines with these process ids; others run here too."""
    found = []
    for folder in Path("/dev/shm").glob("sluice-*"):  # noqa: S108
        for spec in folder.glob("*.json"):
            try:
                parent = json.loads(spec.read_bytes())["parent"]
            except (OSError, ValueError, KeyError):
                continue
            if parent in pids:
                found.append(folder)
                break
    return found


@pytest.fixture
def sluice(launch: Callable[..., Command]) -> Callable[..., Finished]:
    """Run a ``sluice`` command to its end."""

    def run(*arguments: object, timeout: float = 60, env: dict[str, str] | None = None) -> Finished:
        return launch(*arguments, env=env).finish(timeout)

    return run


@pytest.fixture
def together(launch: Callable[..., Command]) -> Callable[..., list[Finished]]:
    """Run several independent ``sluice`` commands to their ends, three at a time."""

    def run(*commands: Sequence[object], env: dict[str, str] | None = None) -> list[Finished]:
        waiting, running, done = list(commands), [], []
        while waiting or running:
            while waiting and len(running) < 3:
                running.append(launch(*waiting.pop(0), env=env))
            done.append(running.pop(0).finish())
        return done

    return run


@pytest.fixture(autouse=True)
def no_leaks_here() -> Iterator[None]:
    """No thread, socket or child of this process outlives a test."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    connections = len(me.net_connections())
    children = set(me.children())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in threads and t.name != "pytest_timeout"]
        more = len(me.net_connections()) - connections
        born = set(me.children()) - children
        if not left and more <= 0 and not born:
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: threads {left}, {more} sockets, children {born}")


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
def new_port() -> Callable[[], int]:
    """Return TCP ports of loopback that were free a moment ago, another one each time."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = int(server.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture
def free_port(new_port: Callable[[], int]) -> int:
    """The port of the run's HTTP pages, or of nobody."""
    return new_port()


@pytest.fixture
def endpoint(new_port: Callable[[], int]) -> str:
    """Where a live source may listen."""
    return f"tcp://127.0.0.1:{new_port()}"


@pytest.fixture
def live_graph(make_graph: Callable[..., Path], endpoint: str) -> Callable[..., Path]:
    """Write a graph as `make_graph` does, whose source listens at `endpoint`."""

    def make(
        name: str = "live", *, source: dict[str, Any] | None = None, **tables: dict[str, Any]
    ) -> Path:
        return make_graph(name, source={"listen": endpoint, **(source or {})}, **tables)

    return make


class Http:
    """A client of a run's HTTP pages."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, page: str) -> tuple[int, str]:
        """Return status and text; status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def until(
        self, page: str, good: Callable[[int, str], bool], command: Command, timeout: float = 90
    ) -> str:
        """Ask until the answer is good; fail if the command ends or time runs out."""
        deadline = time.monotonic() + timeout
        status, text = 0, ""
        while time.monotonic() < deadline and command.alive:
            status, text = self.get(page)
            if good(status, text):
                return text
            time.sleep(0.01)
        command.end()
        out, err = command.process.communicate()
        pytest.fail(f"{page}: last answer {status} {text[:500]}\n{out}\n{err}")

    def ready(self, command: Command) -> None:
        """Wait until the run takes events."""
        self.until("/readyz", lambda status, _: status == 200, command)

    def settled(self, command: Command, events: int) -> dict[str, Any]:
        """Wait until so many events have been judged; return the status."""

        def enough(status: int, text: str) -> bool:
            if status != 200:
                return False
            counts = json.loads(text)["report"]["events"]
            return sum(counts.values()) - counts["offered"] >= events

        return json.loads(self.until("/status", enough, command))


@pytest.fixture
def http(free_port: int) -> Http:
    return Http(free_port)


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
