"""Opening of HDF5 files: truncated ones, those that a writer has open, those that are none."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from sluice.pipeline.core.errors import ConfigError, DataError
from sluice.pipeline.sources.tables.spans import one_line

_CUT = re.compile(r"truncated file.*stored_eof = (?P<bytes>\d+)")
#: What HDF5 says of a file that a writer has open, or did not close.
_LOCKED = re.compile(r"unable to lock file|already open for")


class HdfFile:
    """An HDF5 file, open for reading.

    Attributes
    ----------
    root
        The h5py file.
    damage
        Description of what is missing of a truncated file; None for others.

    Raises
    ------
    DataError
        If it is not an HDF5 file, or a writer has it open.
    """

    def __init__(self, path: Path) -> None:
        h5py = import_h5py(path)
        self.damage: str | None = None
        self._truncated: _TruncatedFile | None = None
        try:
            self.root: Any = h5py.File(path, "r")
        except OSError as error:
            cut = _CUT.search(str(error))
            if cut is None:
                raise _refusal(path, error) from error
            self.root = self._open_truncated(path, int(cut["bytes"]))

    def close(self) -> None:
        """Close the file."""
        self.root.close()
        if self._truncated is not None:
            self._truncated.close()

    def _open_truncated(self, path: Path, whole: int) -> Any:
        h5py = import_h5py(path)
        self.damage = f"cut short: expected {whole} bytes, got {path.stat().st_size}"
        self._truncated = _TruncatedFile(path, whole)
        try:
            return h5py.File(self._truncated, "r")
        except Exception as error:
            self._truncated.close()
            raise DataError(f"{path}: {self.damage}: {one_line(error)}") from error


def import_h5py(path: Path) -> Any:
    """Return the package h5py; ConfigError if it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"{path}: HDF5 files need the package h5py: {error}",
            hint="pip install 'sluice-daq[hdf5]'",
        ) from error
    return h5py


def _refusal(path: Path, error: OSError) -> DataError:
    if _LOCKED.search(str(error)):
        return DataError(
            f"{path}: expected a file that is closed, got one that a writer has open, "
            f"or did not close: {one_line(error)}",
            "wait for the writer; if there is none any more: h5clear -s FILE",
        )
    return DataError(f"{path}: not an HDF5 file: {one_line(error)}")


class _TruncatedFile(io.FileIO):
    """A truncated file that reports its original length, because HDF5 refuses it otherwise.

    Reading beyond the actual end raises an error instead of returning zeros as events.
    """

    def __init__(self, path: Path, whole: int) -> None:
        super().__init__(path)
        self._whole = whole

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            return super().seek(self._whole + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        got = super().readinto(buffer) or 0
        if got < memoryview(buffer).nbytes:
            raise OSError("beyond the end of the file")
        return got
