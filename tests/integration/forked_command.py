"""The ``sluice`` command as a fork of a process that has imported it.

A new interpreter spends more than a second of processor time on its imports, a fork none. A forked
command is a process like any other: it has its own session, streams, environment, signals and exit
code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sluice.pipeline.system.fork_server.child import ChildProcess
from sluice.pipeline.system.fork_server.client import ForkServer

#: What a command imports before it knows its graph, and for nearly every graph.
_MODULES = (
    __name__,
    "sluice.pipeline.cli.main",
    "sluice.pipeline.service.session",
    "sluice.pipeline.service.daemon",
    "sluice.pipeline.service.run_graph",
    "sluice.pipeline.tools.validation",
    "sluice.pipeline.engine.workers.compute",
    "sluice.pipeline.engine.workers.sink",
    "sluice.pipeline.engine.inline",
    "sluice.pipeline.stages.infer",
    "sluice.pipeline.stages.menu",
    "sluice.pipeline.detectors.wafer",
    "sluice.pipeline.detectors.jets",
    "sluice.pipeline.inference.layers",
)
#: These change how an interpreter starts or what it loads: such a command gets a new one.
_OF_INTERPRETERS = ("LD_", "PYTHON", "NUMBA_", "OMP_", "OPENBLAS_", "SLUICE_FAST_IMPORT")


class CommandServer:
    """Forks commands for one tester."""

    def __init__(self) -> None:
        before = os.environ.get("SLUICE_FAST_IMPORT")
        os.environ["SLUICE_FAST_IMPORT"] = "1"  # as the command sets it for itself
        try:
            self._server = ForkServer(_MODULES)
        finally:
            del os.environ["SLUICE_FAST_IMPORT"]
            if before is not None:
                os.environ["SLUICE_FAST_IMPORT"] = before

    def start(
        self, arguments: list[str], folder: Path, env: dict[str, str], streams: Path
    ) -> ForkedCommand:
        """Start a command in `folder` with the environment `env`; its streams are files."""
        streams.mkdir()
        request = {"arguments": arguments, "folder": str(folder), "env": env}
        (streams / "request.json").write_text(json.dumps(request))
        child = self._server.spawn(__name__, str(streams))
        return ForkedCommand(child, arguments, streams)

    def close(self) -> None:
        """End the server; its commands keep running."""
        self._server.close()


def needs_interpreter(env: dict[str, str]) -> bool:
    """Whether a command must be a new interpreter to heed its environment."""
    names = {name for name in env if env[name] != os.environ.get(name)} - {"PYTHONPATH"}
    return any(name.startswith(_OF_INTERPRETERS) for name in names)


class ForkedCommand:
    """A command that was forked, with the methods of `subprocess.Popen` that tests use."""

    stdin = stdout = stderr = None

    def __init__(self, child: ChildProcess, arguments: list[str], streams: Path) -> None:
        self._child, self.args, self._streams = child, arguments, streams
        self.pid = child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.exit_code

    def poll(self) -> int | None:
        return self._child.exit_code

    def wait(self, timeout: float | None = None) -> int:
        if not self._child.wait(1e6 if timeout is None else timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._child.exit_code or 0

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = ((self._streams / name).read_text() for name in ("stdout", "stderr"))
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._child.kill()


def start(argument: str) -> int:
    """Run the command that a request file describes; return its exit code."""
    streams = Path(argument)
    request = json.loads((streams / "request.json").read_text())
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["sluice", *request["arguments"]]
    gc.unfreeze()
    return _run()


def _run() -> int:
    from sluice.pipeline.cli.main import main

    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    return code
