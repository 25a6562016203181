"""A child process known by its process id: its exit code, waiting for its end, killing it."""

from __future__ import annotations

import errno
import math
import os
import select
import signal
import time

#: Interval between two looks where no descriptor is left to wait with, s.
_LOOK_S = 0.01


class ChildProcess:
    """A child of this process.

    Parameters
    ----------
    pid
        Process id.
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
            except ChildProcessError:  # where SIGCHLD is ignored there is no exit status
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    @property
    def exit_description(self) -> str:
        """Description of its exit, for messages."""
        code = self.exit_code
        return f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"

    def kill(self) -> None:
        """Kill the process, unless it has ended."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the process to end; return whether it has."""
        if self.exit_code is None:
            try:
                handle = os.pidfd_open(self.pid)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._wait_without_descriptor(timeout_s)
            else:
                _wait_for_end(handle, timeout_s)
        return self.exit_code is not None

    def _wait_without_descriptor(self, timeout_s: float) -> None:
        """Look again and again whether the process has ended."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def _wait_for_end(handle: int, timeout_s: float) -> None:
    """Wait for the end of the process of a pidfd, and close it."""
    try:
        end = select.poll()
        end.register(handle, select.POLLIN)
        end.poll(math.ceil(timeout_s * 1e3))
    finally:
        os.close(handle)
