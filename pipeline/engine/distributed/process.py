"""The processes of the distributed engine: started, watched, ended. Only those it started."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

import msgspec

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.config.plugins import module_of
from sluice.pipeline.core.log import fields
from sluice.pipeline.engine import workers
from sluice.pipeline.engine.workers.process_spec import ProcessSpec
from sluice.pipeline.system.fork_server.client import ForkServer

_LOG = logging.getLogger("sluice.engine")
_GRACE_S = 5.0
#: The package of the modules that processes run.
_WORKERS = workers.__name__
_ROLES = ("compute", "sink")
#: The backend that has neither threads nor devices.
_PLAIN = "layers"


def start_fork_server(config: GraphConfig, *, fork_now: bool = False) -> ForkServer:
    """Return a nursery for the processes of a graph; `fork_now` as there.

    Parts of others are left to who uses them: they may hold threads or devices once imported.
    """
    uses = [("sink", config.sink.use)]
    uses += [("stage", part.use) for part in config.stages]
    uses += [("monitor", part.use) for part in config.monitors]
    if any(part.options.get("backend") == _PLAIN for part in config.stages):
        uses.append(("backend", _PLAIN))
    modules = [f"{_WORKERS}.{role}" for role in _ROLES]
    modules += [name for kind, use in uses if (name := module_of(kind, use))]
    return ForkServer(list(dict.fromkeys(modules)), fork_now=fork_now)


class Process:
    """One child process of a role (``compute`` or ``sink``).

    Parameters
    ----------
    role
        The module of `engine.workers` that it runs.
    spec
        Its start-up parameters.
    folder
        Where its spec file goes.
    nursery
        Where it comes from.
    """

    def __init__(self, role: str, spec: ProcessSpec, folder: Path, nursery: ForkServer) -> None:
        self.name = spec.name
        self.role = role
        self.spec = spec
        self.ready = False
        self.born_s = time.monotonic()
        self._killed = ""
        path = folder / f"{spec.name}.json"
        path.write_bytes(msgspec.json.encode(spec))
        self._child = nursery.spawn(f"{_WORKERS}.{role}", str(path))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._child.exit_code

    @property
    def death(self) -> str:
        """How it ended, in words."""
        why = f": {self._killed}" if self._killed else ""
        return f"{self.name} (pid {self.pid}) ended {self._child.exit_description}{why}"

    def log_ready(self) -> None:
        """Log that it is ready."""
        seconds = round(time.monotonic() - self.born_s, 3)
        extra = fields("worker-ready", worker=self.name, pid=self.pid, seconds=seconds)
        _LOG.info("%s (pid %d) is ready after %.1f s", self.name, self.pid, seconds, extra=extra)

    def log_restart(self, number: int) -> None:
        """Log that it takes the place of one that ended; the restart has this number."""
        extra = fields("worker-restarted", worker=self.name, pid=self.pid, restarts=number)
        _LOG.warning(
            "%s restarted as pid %d (restart %d)", self.name, self.pid, number, extra=extra
        )

    def log_exit(self, batches: int) -> None:
        """Log how it ended during the run, and the number of its batches that others get."""
        code = self.exit_code or 0
        name = signal.Signals(-code).name if code < 0 else None
        extra = fields(
            "worker-exited", worker=self.name, pid=self.pid, signal=name,
            exit_code=None if name else code, reason=self._killed or None, batches=batches,
        )  # fmt: skip
        how = f"by {name}" if name else f"with exit code {code}"
        why = f" ({self._killed})" if self._killed else ""
        _LOG.warning(
            "%s (pid %d) ended %s%s; %d batches reclaimed", self.name, self.pid, how, why, batches,
            extra=extra,
        )  # fmt: skip

    def kill(self, why: str) -> None:
        """Kill it for a reason that its death will name."""
        self._killed = why
        self._child.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s` seconds; whether it has ended."""
        return self._child.wait(timeout_s)

    def end(self) -> None:
        """Make sure that it has ended; it was told to by a STOP message before."""
        self._child.kill()
        self.wait(_GRACE_S)
