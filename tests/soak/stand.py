"""The processes of a soak: the run, its front ends, and what is known of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import tomli_w

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.recording import find_parts

from .replay import Replay
from .schedule import HANG_TIMEOUT_S, WORKERS

SLUICE = str(Path(sys.executable).with_name("sluice"))
#: Ids of front ends are this far apart, so that no two events have the same.
IDS = 1 << 40
#: Events that every front end sends again and again.
EVENTS = 20_000
#: Models of the stage `tag`, the first at the start; a swap goes to the other.
TAGGERS = ("wafer-tagger", "wafer-tagger-half")
#: Columns of the recording that depend on the event and on its batch alone.
COLUMNS = ("event_id", "t_event", "packed", "sum_q", "score", "decision", "outcome", "prescale",
           "rung", "batch_events")  # fmt: skip
#: How long run control may take: a swap as long as it may, a busy machine included.
_CONTROL_S = 120.0


def held_port() -> socket.socket:
    """Return a socket with a TCP port that nobody else gets; it does not listen, so the run may."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Stand:
    """A live run with a remote worker, the front ends that feed it, and a replay beside it.

    Parameters
    ----------
    folder
        Where everything is written.
    rate_hz
        Of the steady front end.
    seconds
        Duration of the soak, for which the replay lasts.
    """

    def __init__(self, folder: Path, rate_hz: float, seconds: float) -> None:
        self.folder = folder
        self.rate_hz = rate_hz
        self._held = [held_port() for _ in range(4)]
        ports = [int(holder.getsockname()[1]) for holder in self._held]
        self.port, self.http, self._join, self._results = ports
        #: Where the run has its sockets and shared memory.
        self.runtime = Path(tempfile.mkdtemp(prefix="soak-", dir="/dev/shm"))
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.recording, self.report = folder / "run.arrows", folder / "run.json"
        self.sent: list[dict[str, Any]] = []
        #: Events that messages of `mismatch` claimed to carry; the run must count them as invalid.
        self.claimed_events = 0
        self._senders: list[subprocess.Popen[str]] = []
        self._started = 0
        self.graph, self.events = folder / "soak.toml", folder / "w.arrows"
        self.environment = {
            **os.environ, "SLUICE_STATE": str(folder / "state"), "SLUICE_RUNTIME": str(self.runtime)
        }  # fmt: skip
        self.say("simulate", "wafers", "--events", str(EVENTS), "--out", str(self.events))
        self.run = self._start_run()
        self.remote_worker = self._start_remote_worker()
        self.replay = Replay(self, seconds)

    def _start_run(self) -> psutil.Popen:
        graph = tomllib.loads(Path(load_graph("hgcal").origin).read_text())
        graph["source"] |= {"listen": self.endpoint, "backlog": 65_536}
        graph["graph"]["batch_events"] = 1024
        graph["sink"] |= {"rotate_bytes": 4_000_000, "keep": "all", "columns": [*COLUMNS, "epoch"]}
        graph["workers"] = {
            "compute": WORKERS, "restarts": 100_000, "restart_window": "1 s",
            "hang_timeout": f"{HANG_TIMEOUT_S:g} s", "listen": f"tcp://127.0.0.1:{self._join}",
            "results": f"tcp://127.0.0.1:{self._results}",
        }  # fmt: skip
        self.graph.write_text(tomli_w.dumps(graph))
        return psutil.Popen(
            [SLUICE, "run", str(self.graph), "--report", str(self.report),
             "--out", str(self.recording), "--http", f"127.0.0.1:{self.http}", "--json"],
            stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=self.environment,
        )  # fmt: skip

    def _start_remote_worker(self) -> subprocess.Popen[bytes]:
        command = [SLUICE, "worker", f"tcp://127.0.0.1:{self._join}", "--name", "remote",
                   "--patience", "300"]  # fmt: skip
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def restart_remote_worker(self, how: int = signal.SIGTERM) -> dict[str, Any]:
        """End the remote worker and start it again; return what happened."""
        before, ended = self.remote_worker, self.remote_worker.poll()
        if ended is None:
            before.send_signal(how)
        before.wait(_CONTROL_S)
        self.remote_worker = self._start_remote_worker()
        return {"pid": before.pid, "had_ended": ended, "successor": self.remote_worker.pid}

    def keep_remote_worker(self) -> None:
        """Start the remote worker again if it has ended, as one does that was away for too long."""
        if self.remote_worker.poll() is not None:
            self.restart_remote_worker()

    def parts(self) -> list[Path]:
        """Return the files of the recording so far, in order."""
        return list(find_parts(self.recording).values())

    def ready(self) -> bool:
        """Whether the run takes events."""
        return self.page("/readyz")[0] == 200

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def send(self, rate_hz: float, seconds: float) -> None:
        """Start a front end; its event ids are its own."""
        self._started += 1
        arguments = ["emulate", "--to", self.endpoint, "--from", str(self.folder / "w.arrows"),
                     "--rate", str(rate_hz), "--seconds", str(seconds), "--per-message", "4",
                     "--first-id", str(self._started * IDS), "--json"]  # fmt: skip
        self._senders.append(
            subprocess.Popen([SLUICE, *arguments], stdout=subprocess.PIPE, text=True)
        )

    def control(self, *words: str) -> str:
        """Say something to the run by ``sluice ctl``; return what went wrong, or "done"."""
        command = [SLUICE, "ctl", *words, "--address", f"127.0.0.1:{self.http}"]
        try:
            completed = subprocess.run(
                command, capture_output=True, text=True, timeout=_CONTROL_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"no answer in {_CONTROL_S:g} s"
        return completed.stderr.strip() if completed.returncode else "done"

    def collect(self, timeout_s: float) -> None:
        """Wait for every front end's end and keep what it says."""
        for number, sender in enumerate(self._senders, 1):
            said, _ = sender.communicate(timeout=timeout_s)
            if sender.returncode:
                raise RuntimeError(f"a front end ended with exit code {sender.returncode}")
            self.sent.append(json.loads(said) | {"first_id": number * IDS})

    def processes(self) -> dict[str, psutil.Process]:
        """Return the run's processes by name: engine, sink, compute-0 and so on."""
        found: dict[str, psutil.Process] = {}
        try:
            found["engine"] = psutil.Process(self.run.pid)
            for child in found["engine"].children():
                words = " ".join(child.cmdline()).split()
                if words[:1] == ["sluice"]:
                    found[Path(words[-1]).stem] = child
        except psutil.Error:
            pass
        return found

    def end(self) -> None:
        """Kill what still lives of what was started here."""
        self.replay.end()
        for process in [*self.processes().values(), *self._senders, self.remote_worker]:
            with suppress(psutil.Error, OSError):
                process.kill()
        for holder in self._held:
            holder.close()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def say(self, *arguments: str) -> None:
        """Run a command of Sluice to its end; RuntimeError with its message if it fails."""
        done = subprocess.run(
            [SLUICE, *arguments], capture_output=True, text=True, check=False, env=self.environment
        )
        if done.returncode:
            raise RuntimeError(f"sluice {' '.join(arguments)}: {done.returncode}: {done.stderr}")
