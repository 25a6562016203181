"""Child processes of the distributed engine, and the fork server that starts them."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import msgspec

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import module_of
from sluice.pipeline.core.log import fields
from sluice.pipeline.engine import workers
from sluice.pipeline.engine.workers.process_spec import ProcessSpec
from sluice.pipeline.system.fork_server.child import ChildProcess
from sluice.pipeline.system.fork_server.client import ForkServer

_LOG = logging.getLogger("sluice.engine")
#: Time for a killed process to end, s.
_EXIT_TIMEOUT_S = 5.0
#: Package of the modules that the processes run.
_WORKERS = workers.__name__
_ROLES = ("compute", "sink")
#: Inference backend without threads and devices: safe to import before a fork.
_LAYERS = "layers"


def start_fork_server(config: GraphConfig, *, fork_now: bool = False) -> ForkServer:
    """Return a fork server for the processes of a graph.

    It preloads our own components only: components of other packages may start threads or open
    devices when they are imported, so the workers import them.

    Parameters
    ----------
    config
        The graph.
    fork_now
        Whether to fork this process instead of starting a new interpreter.
    """
    uses = [("sink", config.sink.use)]
    uses += [("stage", part.use) for part in config.stages]
    uses += [("monitor", part.use) for part in config.monitors]
    if any(part.options.get("backend") == _LAYERS for part in config.stages):
        uses.append(("backend", _LAYERS))
    modules = [f"{_WORKERS}.{role}" for role in _ROLES]
    modules += [name for kind, use in uses if (name := module_of(kind, use))]
    return ForkServer(list(dict.fromkeys(modules)), fork_now=fork_now)


def write_spec(role: str, spec: ProcessSpec, folder: Path) -> tuple[str, str]:
    """Write the start-up parameters of a process; return its module and argument.

    Parameters
    ----------
    role
        Module of `engine.workers` that it runs.
    spec
        Start-up parameters.
    folder
        Folder for the file.
    """
    path = folder / f"{spec.name}.json"
    _write_private(path, msgspec.json.encode(spec))
    return f"{_WORKERS}.{role}", str(path)


class Process:
    """One child process with a role: ``compute`` or ``sink``.

    Parameters
    ----------
    role
        Module of `engine.workers` that it runs.
    spec
        Start-up parameters.
    child
        The process, running.
    """

    def __init__(self, role: str, spec: ProcessSpec, child: ChildProcess) -> None:
        self.name = spec.name
        self.role = role
        self.spec = spec
        self.ready = False
        self.started_s = time.monotonic()
        self._kill_reason = ""
        self._child = child

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._child.exit_code

    @property
    def exit_description(self) -> str:
        """Description of its exit, for messages."""
        why = f": {self._kill_reason}" if self._kill_reason else ""
        return f"{self.name} (pid {self.pid}) ended {self._child.exit_description}{why}"

    def log_ready(self) -> None:
        """Log that it is ready."""
        seconds = round(time.monotonic() - self.started_s, 3)
        extra = fields("worker-ready", worker=self.name, pid=self.pid, seconds=seconds)
        _LOG.info("%s (pid %d) is ready after %.1f s", self.name, self.pid, seconds, extra=extra)

    def log_restart(self, number: int) -> None:
        """Log the restart of a process, with the number of the restart."""
        extra = fields("worker-restarted", worker=self.name, pid=self.pid, restarts=number)
        _LOG.warning(
            "%s restarted as pid %d (restart %d)", self.name, self.pid, number, extra=extra
        )

    def log_exit(self, batches: int) -> None:
        """Log its exit during the run, and the number of its requeued batches."""
        code = self.exit_code or 0
        name = signal.Signals(-code).name if code < 0 else None
        extra = fields(
            "worker-exited", worker=self.name, pid=self.pid, signal=name,
            exit_code=None if name else code, reason=self._kill_reason or None, batches=batches,
        )  # fmt: skip
        how = f"by {name}" if name else f"with exit code {code}"
        why = f" ({self._kill_reason})" if self._kill_reason else ""
        _LOG.warning(
            "%s (pid %d) ended %s%s; %d batches reclaimed", self.name, self.pid, how, why, batches,
            extra=extra,
        )  # fmt: skip

    def kill(self, why: str) -> None:
        """Kill the process for the reason `why`, which `exit_description` includes."""
        self._kill_reason = why
        self._child.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the process to end; return whether it has."""
        return self._child.wait(timeout_s)

    def end(self) -> None:
        """Kill the process if it has not ended after STOP."""
        self._child.kill()
        self.wait(_EXIT_TIMEOUT_S)


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user can read: that of the sink has the secret of the run."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
