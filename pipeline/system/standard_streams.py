"""Standard streams that never stop a command: closed, full, without a reader, or of any encoding.

What a command has done must not be lost because its text cannot be written. So text that cannot be
written is dropped and the error kept, and a command whose text is its result looks for it at its
end.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NULL_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
#: Exit code of a shell for a program that SIGPIPE has ended: nobody reads its output any more.
_EXIT_NO_READER = 141


class _Output(io.RawIOBase):
    """A descriptor to write to; a write that fails counts as done, and its error is kept."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        content = bytes(data)
        error = _write_all(self._descriptor, content)  # always: a disk may have space again
        self.error = self.error or error
        return len(content)


def _write_all(descriptor: int, content: bytes) -> OSError | None:
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError as error:
        return error
    return None


def open_missing_descriptors() -> None:
    """Open ``/dev/null`` as each standard descriptor that is closed.

    Otherwise the next file or socket to be opened becomes the standard stream of all children.
    """
    for descriptor, mode in enumerate(_NULL_MODES):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, mode)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)


def protect_standard_streams() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams to which a write never fails.

    Characters that their encoding lacks are written as escapes.
    """
    open_missing_descriptors()
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    output, log = _protected(1, sys.stdout), _protected(2, sys.stderr)
    vars(sys).update(stdout=output, __stdout__=output, stderr=log, __stderr__=log)


def _protected(descriptor: int, before: Any) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    output = _Output(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(output), encoding, "backslashreplace",
        line_buffering=descriptor == 2 or output.isatty(),
    )  # fmt: skip


def write_error(stream: Any) -> OSError | None:
    """Return the error for which text of a protected stream was dropped; None without one."""
    output = _output_of(stream)
    if output is None:
        return None
    stream.flush()
    return output.error


def _output_of(stream: Any) -> _Output | None:
    output = getattr(getattr(stream, "buffer", None), "raw", None)
    return output if isinstance(output, _Output) else None


@contextmanager
def optional_output() -> Iterator[None]:
    """Within the context it does not matter whether `sys.stdout` can be written."""
    before = write_error(sys.stdout)
    yield
    output = _output_of(sys.stdout)
    if output is not None:
        sys.stdout.flush()
        output.error = before


def exit_code_of_stdout() -> int:
    """Return 0 if all of `sys.stdout` was written, else an exit code; say why on `sys.stderr`."""
    error = write_error(sys.stdout)
    if error is None:
        return 0
    if error.errno == errno.EPIPE:
        return _EXIT_NO_READER
    sys.stderr.write(f"sluice: error: standard output: cannot write: {error.strerror}\n")
    return 1
