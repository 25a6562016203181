"""The installed command: its processes, all ended when a test ends, and its HTTP pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from .forked_command import CommandServer, ForkedCommand, needs_interpreter

SLUICE = Path(sys.executable).with_name("sluice")


class Finished:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Command:
    """A ``sluice`` command that runs; its processes are known, so that leaks can be."""

    def __init__(
        self, process: subprocess.Popen[str] | ForkedCommand, arguments: list[str], folder: Path
    ) -> None:
        self.process, self.arguments, self.folder = process, arguments, folder
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


def start_interpreter(
    command: list[str], folder: Path, env: dict[str, str]
) -> subprocess.Popen[str]:
    """Start a command as a new process."""
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def title(process: psutil.Process) -> list[str]:
    """Return what a process shows as its command: role, and the path of its spec file."""
    return " ".join(process.cmdline()).split()


@pytest.fixture(scope="session")
def command_server(pytestconfig: pytest.Config) -> Iterator[CommandServer | None]:
    """The process whose forks are the commands of this tester; none if each is to be a new one."""
    if pytestconfig.getoption("--new-interpreters"):
        yield None
        return
    server = CommandServer()
    yield server
    server.close()


@pytest.fixture
def launch(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    parts: Path,
    models: Path,
    command_server: CommandServer | None,
) -> Iterator[Callable[..., Command]]:
    """Start a ``sluice`` command in a folder of its own; what is left at the end is a failure."""
    commands: list[Command] = []
    streams = tmp_path_factory.mktemp("streams")

    def start(
        *arguments: object, env: dict[str, str] | None = None, through: Sequence[object] = ()
    ) -> Command:
        own = {"COLUMNS": "200", "PYTHONPATH": str(parts), "SLUICE_MODELS": str(models)}
        environment = {**os.environ, **own, **(env or {})}
        texts = [str(argument) for argument in arguments]
        process: subprocess.Popen[str] | ForkedCommand
        if command_server is None or through or needs_interpreter(environment):
            command = [*map(str, through), str(SLUICE), *texts]
            process = start_interpreter(command, tmp_path, environment)
        else:
            place = streams / str(len(commands))
            process = command_server.start(texts, tmp_path, environment, place)
        commands.append(Command(process, texts, tmp_path))
        return commands[-1]

    yield start
    left = [command.arguments for command in commands if command.alive]
    for command in commands:
        command.end()
        for stream in (command.process.stdout, command.process.stderr):
            if stream is not None:
                stream.close()
    assert not left, f"still running at the end of the test: {left}"
    deadline = time.monotonic() + 10
    while (running := [p for c in commands for p in c.family if _runs(p)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    for process in running:
        process.kill()
    assert not running, f"processes left behind: {running}"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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

    def stopping(self, command: Command) -> None:
        """Wait until the run takes no more events; signals that come at once are one."""
        self.until("/readyz", lambda status, _: status == 503, command)

    def settled(self, command: Command, events: int) -> dict[str, Any]:
        """Wait until so many events have an outcome; return the status."""

        def enough(status: int, text: str) -> bool:
            if status != 200:
                return False
            counts = json.loads(text)["report"]["events"]
            return sum(counts.values()) - counts["offered"] >= events

        return json.loads(self.until("/status", enough, command))


@pytest.fixture
def http(free_port: int) -> Http:
    return Http(free_port)
