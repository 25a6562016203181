"""The processes of the distributed engine: started, watched, ended. Only those it started."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from .spec import Spec

_GRACE_S = 5.0


class Process:
    """One child process of a role (``compute`` or ``commit``).

    Parameters
    ----------
    role
        The module of this package that it runs.
    spec
        Its start-up parameters.
    folder
        Where its spec file goes.
    """

    def __init__(self, role: str, spec: Spec, folder: Path) -> None:
        self.name = spec.name
        self.role = role
        self.spec = spec
        self.ready = False
        self.born_s = time.monotonic()
        self._killed = ""
        path = folder / f"{spec.name}.json"
        path.write_bytes(msgspec.json.encode(spec))
        command = [sys.executable, "-m", f"sluice.pipeline.engine.{role}", str(path)]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._child.poll()

    @property
    def death(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        why = f": {self._killed}" if self._killed else ""
        return f"{self.name} (pid {self.pid}) ended {how}{why}"

    def kill(self, why: str) -> None:
        """Kill it for a reason that its death will name."""
        self._killed = why
        self._child.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s` seconds; whether it has ended."""
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> None:
        """Make sure that it has ended; it was told to by a STOP message before."""
        if self.exit_code is None:
            self._child.kill()
            self.wait(_GRACE_S)
