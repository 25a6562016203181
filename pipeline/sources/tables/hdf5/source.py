"""Events from HDF5 files (extra ``hdf5``): datasets and compounds with one entry per event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.ragged import offsets_of
from sluice.pipeline.core.schema import Array
from sluice.pipeline.sources.tables.rules.field import (
    NO_DEFAULTS,
    Field,
    FieldValues,
    TableChunk,
    ValuesByField,
)
from sluice.pipeline.sources.tables.source import TableSource
from sluice.pipeline.sources.tables.spans import one_line, readable, spans

from .datasets import Dataset, find_datasets
from .file import HdfFile
from .list_index import ListIndex
from .storage import describe, require_written, unwritten_events

_NEVER_WRITTEN = "one that was never written"


class Hdf5Source(TableSource):
    """Reads datasets of HDF5 files."""

    class Options(TableSource.Options, frozen=True, forbid_unknown_fields=True):
        """Path of the file, and group or dataset in it."""

        #: Group or compound dataset that has the columns.
        group: str = "/"

    takes_index = True

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._group = options.group

    def open_table(self, path: Path) -> Hdf5Table:
        """Open a file."""
        return Hdf5Table(path, self._group)


class Hdf5Table:
    """One open file; a truncated file is read up to its end."""

    defaults = NO_DEFAULTS

    def __init__(self, path: Path, group: str) -> None:
        self._file = HdfFile(path)
        self._indices: dict[tuple[str, tuple[tuple[str, str], ...]], ListIndex] = {}
        self._unwritten: dict[tuple[str, str], Array | None] = {}
        try:
            self._datasets = find_datasets(self._file.root, group, path)
        except DataError:
            self.close()
            raise
        except (
            Exception
        ) as error:  # HDF5 raises any exception for metadata that is truncated or invalid
            self.close()
            why = self._file.damage or "damaged"
            raise DataError(f"{path}: {why}; its structure is lost: {one_line(error)}") from error
        self.fields: Mapping[str, Field] = {n: d.field for n, d in self._datasets.items()}

    def check(self, fields: Sequence[Field]) -> None:
        """Raise DataError if values were never written, or lists do not add up to their items."""
        for field in fields:
            try:
                self._check(field)
            except DataError:
                raise
            except Exception as error:  # HDF5 raises any exception for invalid metadata
                why = self._file.damage or "damaged"
                raise DataError(f"{field.name!r}: {why}: {one_line(error)}") from error

    def _check(self, field: Field) -> None:
        require_written(self._datasets[field.name].item, field.name)
        for kind, name in field.index:
            item = self._datasets[name].item
            require_written(item, name)
            if unwritten_events(item) is not None:
                raise DataError(f"{kind}: {name!r}: a part of it was never written")
        if field.index and (field.name, field.index) not in self._indices:
            self._indices[field.name, field.index] = self._index(field)

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield slices that end at the boundaries of the file's chunks."""
        step = max(self._chunk_events(field) for field in fields)
        size = max(step, max_events // step * step)
        events = fields[0].events or 0
        yield from readable(
            lambda start, stop: self._read(fields, start, stop), spans([0, events], size)
        )
        if self._file.damage:
            raise DataError(self._file.damage)

    def storage(self, field: Field) -> str:
        """Return chunks, filters and kind of a dataset, and the link that leads to it."""
        dataset = self._datasets[field.name]
        return ", ".join(filter(None, (describe(dataset.item), dataset.link)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _chunk_events(self, field: Field) -> int:
        name = field.index[0][1] if field.index else field.name
        return int((self._datasets[name].item.chunks or (1,))[0])

    def _index(self, field: Field) -> ListIndex:
        index = {kind: self._datasets[name] for kind, name in field.index}
        return ListIndex(index, len(self._datasets[field.name].item), field.name)

    def _read(self, fields: Sequence[Field], start: int, stop: int) -> ValuesByField:
        """Read each dataset once, and of a compound dataset only the needed members."""
        plain = [self._datasets[field.name] for field in fields if not field.index]
        slices = _read_slices(plain, start, stop)
        return {
            field: self._items(field, start, stop)
            if field.index
            else self._values(field, slices, start, stop)
            for field in fields
        }

    def _values(
        self, field: Field, slices: Mapping[tuple[str, str], Any], start: int, stop: int
    ) -> FieldValues:
        dataset = self._datasets[field.name]
        values = dataset.member(slices[dataset.key])
        items, offsets = _joined(values, field) if field.ragged else (_native(values), None)
        missing = self._missing(dataset)
        nulls = missing[start:stop] if missing is not None else None
        return FieldValues(items, offsets, nulls, _NEVER_WRITTEN)

    def _missing(self, dataset: Dataset) -> Array | None:
        """Return whether each entry of a dataset was never written; None if all were."""
        name = dataset.key
        if name not in self._unwritten:
            self._unwritten[name] = unwritten_events(dataset.item)
        return self._unwritten[name]

    def _items(self, field: Field, start: int, stop: int) -> FieldValues:
        """Read lists whose items are stored one after another."""
        dataset = self._datasets[field.name]
        offsets = self._indices[field.name, field.index].offsets(start, stop)
        values = dataset.member(dataset.item[offsets[0] : offsets[-1]])
        missing = self._missing(dataset)
        nulls = None
        if missing is not None:
            before = offsets_of(missing[offsets[0] : offsets[-1]])[offsets - offsets[0]]
            nulls = np.diff(before) > 0
        return FieldValues(_native(values), offsets - offsets[0], nulls, _NEVER_WRITTEN)


def _read_slices(datasets: Sequence[Dataset], start: int, stop: int) -> dict[tuple[str, str], Any]:
    wanted: dict[tuple[str, str], tuple[Any, set[str]]] = {}
    for dataset in datasets:
        members = wanted.setdefault(dataset.key, (dataset.item, set()))[1]
        members.update(dataset.path[:1])
    return {
        key: (item.fields(sorted(members)) if members else item)[start:stop]
        for key, (item, members) in wanted.items()
    }


def _joined(values: Array, field: Field) -> tuple[Array, Array]:
    """Return the items of all lists, and the offsets of the lists."""
    offsets = offsets_of([len(entries) for entries in values])
    joined = np.concatenate(values) if len(values) else np.empty(0)
    return joined.astype(field.dtype, copy=False), offsets


def _native(values: Array) -> Array:
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
