"""Datasets of an HDF5 file, by their names: through links, and within compounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import DataError, did_you_mean
from sluice.pipeline.core.schema import Array
from sluice.pipeline.sources.tables.rules.field import Field

#: Maximum number of groups and datasets that are looked at, and of groups within one another.
_MAX_OBJECTS, _MAX_DEPTH = 100_000, 64


class Dataset(Struct, frozen=True):
    """A dataset, or a member of a compound one.

    Attributes
    ----------
    field
        What it holds.
    item
        The h5py dataset; None if it cannot be opened.
    path
        Names of the members on the way into the compound.
    link
        The soft or external link that leads to it; empty for others.
    """

    field: Field
    item: Any
    path: tuple[str, ...] = ()
    link: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """File and name of the whole dataset; external links lead to other files."""
        return self.item.file.filename, self.item.name

    def member(self, values: Array) -> Array:
        """Return the member's part of values of the whole dataset."""
        for name in self.path:
            values = values[name]
        return values


def find_datasets(file: Any, group: str, path: Path) -> dict[str, Dataset]:
    """Return the datasets within a group, by names from there on; soft and external links too.

    Raises
    ------
    DataError
        If there is no such group.
    """
    try:
        node = file[group]
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise _no_group(file, group, path) from error
    if hasattr(node, "dtype"):
        return _by_name(_members(node, "", node.dtype, ()))
    return _by_name(_Walk(path).group(node, "", ()))


def _by_name(datasets: Iterator[Dataset]) -> dict[str, Dataset]:
    """Return datasets by name; a name that two have cannot be used."""
    found: dict[str, Dataset] = {}
    for dataset in datasets:
        name = dataset.field.name
        both = Field(name=name, events=0, trouble="several datasets of this name")
        found[name] = Dataset(both, None) if name in found else dataset
    return found


def _no_group(file: Any, group: str, path: Path) -> DataError:
    try:
        link = file.get(group, getlink=True)
    except (KeyError, OSError):
        link = None
    if hasattr(link, "path"):
        return DataError(
            f"{path}: group {group!r}: expected a group, got {_target(link)} that leads to nothing"
        )
    return DataError(
        f"{path}: group {group!r}: expected it in the file, got none",
        did_you_mean(group.strip("/"), file),
    )


class _Walk:
    """One walk through the groups of a file, bounded, and never twice into the same group."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen = path, 0

    def group(self, group: Any, prefix: str, above: tuple[Any, ...]) -> Iterator[Dataset]:
        """Yield the datasets in a group and below; `above` are the groups around it."""
        here = (*above, group.id)
        if any(group.id == other for other in above) or len(here) > _MAX_DEPTH:
            return
        for key in group:
            self._seen += 1
            if self._seen > _MAX_OBJECTS:
                raise DataError(
                    f"{self._path}: expected at most {_MAX_OBJECTS} groups and datasets, got more",
                    "name the group to read: `group`",
                )
            yield from self._object(group, key, f"{prefix}/{key}" if prefix else key, here)

    def _object(self, group: Any, key: str, name: str, above: tuple[Any, ...]) -> Iterator[Dataset]:
        try:
            item = group[key]
        except Exception as error:  # links that go round raise others than broken ones
            yield Dataset(
                Field(name=name, events=0, trouble=_why_unopened(group, key, error)), None
            )
            return
        if hasattr(item, "keys"):
            yield from self.group(item, name, above)
        elif hasattr(item, "shape"):
            yield from _dataset(item, name, _target(group.get(key, getlink=True)))


def _why_unopened(group: Any, key: str, error: Exception) -> str:
    link = group.get(key, getlink=True)
    text = str(error).strip("'\"")
    return f"{_target(link) or 'an object'} that leads to nothing: {text}"[:300]


def _target(link: Any) -> str:
    if hasattr(link, "filename"):
        return f"an external link to {link.path!r} of the file {link.filename!r}"
    return f"a soft link to {link.path!r}" if hasattr(link, "path") else ""


def _dataset(item: Any, name: str, link: str) -> Iterator[Dataset]:
    try:
        dtype = item.dtype
    except (TypeError, ValueError, OSError) as error:  # a type that NumPy lacks
        yield Dataset(
            Field(name=name, events=0, trouble=f"a type that h5py cannot read: {error}"), None
        )
        return
    for found in _members(item, name, dtype, ()):
        yield msgspec.structs.replace(found, link=link)


def _members(
    item: Any, name: str, dtype: np.dtype[Any], path: tuple[str, ...]
) -> Iterator[Dataset]:
    """Yield a dataset, or the members of a compound, with names joined by dots."""
    if dtype.names:
        for member in dtype.names:
            inner = f"{name}.{member}" if name else member
            yield from _members(item, inner, dtype[member], (*path, member))
        return
    yield Dataset(_field(item, name, dtype, nested=bool(path)), item, path)


def _field(item: Any, name: str, dtype: np.dtype[Any], *, nested: bool) -> Field:
    if not item.shape:
        what = "a single value" if item.shape == () else "an empty dataset"
        return Field(name=name, events=0, trouble=what)
    if 0 in item.shape[1:]:
        return Field(name=name, events=item.shape[0], trouble="items without values")
    lists = _list_dtype(dtype) if not nested and item.ndim == 1 else None
    base, shape = (lists, ()) if lists is not None else (dtype.base, dtype.shape)
    if base.kind not in "biuf" or base.itemsize > 8:
        return Field(name=name, events=item.shape[0], trouble=_type_name(dtype))
    return Field(
        name=name,
        events=item.shape[0],
        dtype=str(base.newbyteorder("=")),
        shape=(*item.shape[1:], *shape),
        ragged=lists is not None,
    )


def _type_name(dtype: np.dtype[Any]) -> str:
    return "text" if dtype.kind in "OSU" else str(dtype)


def _list_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    import h5py

    kind = h5py.check_vlen_dtype(dtype)
    return kind if isinstance(kind, np.dtype) else None
