"""Run numbers that never repeat: a state folder remembers every number that was given.

The file ``runs.json`` holds the numbers as ranges, ends included. It is replaced as a whole under
a lock and is on the device before a number is used: whoever has a number has it alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError

#: Run numbers are uint32 in the header of every message.
MOST = 2**32 - 1
#: The number of a trial: never remembered, never given.
UNNUMBERED = 0
_LOCK_S = 10.0
_RETRY_S = 0.01


class _Given(Struct, forbid_unknown_fields=True):
    """What ``runs.json`` holds."""

    given: list[tuple[int, int]] = []


class RunNumbers:
    """The run numbers of one state folder.

    Parameters
    ----------
    folder
        Made where it is not there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "runs.json"

    def allocate(self, wanted: int | None = None) -> int:
        """Return a run number that nobody had before, and remember it.

        Parameters
        ----------
        wanted
            Take this one; None takes one more than the greatest given so far. `UNNUMBERED` is
            always free and is not remembered.

        Raises
        ------
        ConfigError
            If the number was given before, or the folder cannot be used.
        """
        if wanted == UNNUMBERED:
            return UNNUMBERED
        try:
            with self._locked():
                given = self._read()
                number = 1 + max((last for _, last in given), default=0)
                number = self._require_free(number if wanted is None else wanted, given)
                self._write(_with(given, number))
        except OSError as error:
            raise ConfigError(
                f"run numbers: cannot use the state folder {self._folder}: {error.strerror}",
                hint="name another: `state` of [run] in the graph file, or SLUICE_STATE",
            ) from error
        return number

    def _require_free(self, number: int, given: list[tuple[int, int]]) -> int:
        if any(first <= number <= last for first, last in given):
            raise ConfigError(
                f"run {number}: expected a number that was never given, got one that was "
                f"({self._file})",
                hint="leave out --run to get the next one",
            )
        if number > MOST:
            raise ConfigError(
                f"run numbers: {MOST} was given, there is no next one ({self._file})",
                hint="choose a free one with --run",
            )
        return number

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock; whoever dies lets go of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_S
        with (self._folder / "runs.lock").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_RETRY_S)
            yield

    def _read(self) -> list[tuple[int, int]]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Given).given
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"run numbers: {self._file}: expected ranges of numbers: {error}",
                hint="put right or remove the file; removed, numbers begin at 1 again",
            ) from error

    def _write(self, given: list[tuple[int, int]]) -> None:
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(_Given(given)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _with(given: list[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """Return the ranges with one number more, sorted, neighbours joined.

    Examples
    --------
    >>> _with([(1, 3), (7, 7)], 4)
    [(1, 4), (7, 7)]
    """
    joined: list[tuple[int, int]] = []
    for first, last in sorted([*given, (number, number)]):
        if joined and first == joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def state_folder(configured: str) -> Path:
    """Return where run numbers are kept: as configured, else SLUICE_STATE, else XDG's place."""
    chosen = configured or os.environ.get("SLUICE_STATE", "")
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home else Path("~/.local/state").expanduser()) / "sluice"


def expand_run_number(template: Path | None, run: int) -> Path | None:
    """Put the run number where a path says ``{run}``, or raise ConfigError."""
    if template is None:
        return None
    try:
        return Path(str(template).format(run=run))
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"{template}: expected braces only around run, as in {{run}}") from error
