"""Run numbers that never repeat: a state folder keeps every number that was allocated.

The file ``runs.json`` holds the numbers as ranges, ends included. It is replaced atomically under a
lock and is on the disk before a number is used, so that no two runs have the same number.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from sluice.pipeline.core.errors import ConfigError

#: Largest run number: the header of every message holds it as uint32.
MAX_RUN_NUMBER = 2**32 - 1
#: Run number of a trial run: always free, never stored.
UNNUMBERED = 0
#: Longest time to wait for the lock, and time between two attempts.
_LOCK_TIMEOUT_S = 10.0
_RETRY_S = 0.01


class _Allocated(Struct, forbid_unknown_fields=True):
    """Content of ``runs.json``; the key ``given`` is part of the file format."""

    given: list[tuple[int, int]] = []


class RunNumbers:
    """The run numbers of one state folder.

    Parameters
    ----------
    folder
        State folder; created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "runs.json"

    def allocate(
        self, wanted: int | None = None, is_taken: Callable[[int], bool] = lambda _: False
    ) -> int:
        """Return a run number that no run had before, and store it.

        Parameters
        ----------
        wanted
            Number to allocate; None for one more than the largest so far. `UNNUMBERED` is always
            free and is not stored.
        is_taken
            Whether a run of this number has left files where the next run would write; such a
            number is passed over.

        Raises
        ------
        ConfigError
            If the number was allocated before, or the folder cannot be used.
        """
        if wanted == UNNUMBERED:
            return UNNUMBERED
        try:
            with self._locked():
                given = self._read()
                number = _next_number(given, is_taken) if wanted is None else wanted
                self._require_free(number, given)
                self._write(_with(given, number))
        except OSError as error:
            raise ConfigError(
                f"run numbers: cannot use the state folder {self._folder}: {error.strerror}",
                hint="choose another: `state` of [run] in the graph file, or SLUICE_STATE",
            ) from error
        return number

    def require_free(self, wanted: int | None) -> None:
        """Raise the ConfigError that `allocate` would, for a number given before; take none."""
        if wanted is not None and wanted != UNNUMBERED:
            self._require_free(wanted, self._read())

    def _require_free(self, number: int, given: list[tuple[int, int]]) -> None:
        if any(first <= number <= last for first, last in given):
            raise ConfigError(
                f"run {number}: expected a number that was never used, got one that was "
                f"({self._file})",
                hint="leave out --run to get the next one",
            )
        if number > MAX_RUN_NUMBER:
            raise ConfigError(
                f"run numbers: {MAX_RUN_NUMBER} was used, there is no next one ({self._file})",
                hint="choose a free one with --run",
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock, which the kernel releases when the process ends."""
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
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
            return msgspec.json.decode(self._file.read_bytes(), type=_Allocated).given
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"run numbers: {self._file}: expected ranges of numbers: {error}",
                hint="repair or remove the file; without it, numbers begin at 1 again",
            ) from error

    def _write(self, given: list[tuple[int, int]]) -> None:
        new = self._file.with_suffix(".new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(_Allocated(given)))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _next_number(given: list[tuple[int, int]], is_taken: Callable[[int], bool]) -> int:
    """Return the first number after all allocated ones that is not taken."""
    number = 1 + max((last for _, last in given), default=0)
    while number <= MAX_RUN_NUMBER and is_taken(number):
        number += 1
    return number


def _with(given: list[tuple[int, int]], number: int) -> list[tuple[int, int]]:
    """Return the ranges with one more number, sorted, adjacent ranges joined.

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
    """Return the state folder: as configured, else SLUICE_STATE, else the one of the XDG rules."""
    chosen = configured or os.environ.get("SLUICE_STATE", "")
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home else Path("~/.local/state").expanduser()) / "sluice"


def expand_run_number(template: Path | None, run: int) -> Path | None:
    """Return a path with the run number in place of ``{run}``; ConfigError for other braces."""
    if template is None:
        return None
    try:
        return Path(str(template).format(run=run))
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"{template}: expected braces only around run, as in {{run}}") from error
