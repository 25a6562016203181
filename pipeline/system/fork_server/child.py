"""A child of this process of which only the process id is known: watched, awaited, killed."""

from __future__ import annotations

import math
import os
import select
import signal


class ChildProcess:
    """A child process, however it came to be one.

    Parameters
    ----------
    pid
        Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # where SIGCHLD is ignored nobody is told how it ended
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    @property
    def exit_description(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s` seconds; whether it has ended."""
        if self.exit_code is None:
            handle = os.pidfd_open(self.pid)
            try:
                end = select.poll()
                end.register(handle, select.POLLIN)
                end.poll(math.ceil(timeout_s * 1e3))
            finally:
                os.close(handle)
        return self.exit_code is not None
