"""Files that the path of a source names, in the order in which they are read."""

from __future__ import annotations

from glob import glob, has_magic
from pathlib import Path

from sluice.pipeline.core.errors import DataError

from .rules.matching import natural_order


def find_inputs(path: str | Path) -> list[Path]:
    """Return the files that a path names: one file, or all that match a pattern.

    Parameters
    ----------
    path
        Path of a file, or a pattern with ``*``, ``?``, ``[…]``; ``**`` stands for any folders.

    Returns
    -------
    list of Path
        The files in the order of their names, with numbers in them as numbers: ``run2.h5`` before
        ``run10.h5``.

    Raises
    ------
    DataError
        If there is no such file.
    """
    one = Path(path)
    if one.is_file():
        return [one]
    if one.is_dir():
        raise DataError(
            f"{path}: cannot open: expected a file, got a folder",
            f"a pattern names several files: {one / '*'}",
        )
    if one.exists():
        raise DataError(f"{path}: cannot open: expected a regular file, got a pipe or a device")
    if not has_magic(str(path)):
        raise DataError(f"{path}: cannot open: no such file")
    found = [name for name in glob(str(path), recursive=True) if Path(name).is_file()]
    if not found:
        raise DataError(f"{path}: cannot open: expected files of this pattern, got none")
    return [Path(name) for name in natural_order(found)]
