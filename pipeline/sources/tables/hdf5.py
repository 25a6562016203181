"""Events from HDF5 files (extra ``hdf5``): datasets and compounds with one entry per event."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sluice.pipeline.core.errors import ConfigError, DataError, did_you_mean
from sluice.pipeline.core.ragged import check_offsets
from sluice.pipeline.core.schema import Array

from .columns import FieldValues, ValuesByField
from .mapping import Field
from .source import TableSource, one_line, readable, spans

_CUT = re.compile(r"truncated file.*stored_eof = (?P<bytes>\d+)")


class Hdf5Source(TableSource):
    """Reads datasets of one HDF5 file."""

    class Options(TableSource.Options, frozen=True, forbid_unknown_fields=True):
        """Path of the file, and group or dataset in it."""

        #: Group or compound dataset that has the columns.
        group: str = "/"

    takes_offsets = True

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name, options)
        self._group = options.group

    def open_table(self) -> Hdf5Table:
        """Open the file."""
        return Hdf5Table(self._path, self._group)


class Hdf5Table:
    """One open file; a truncated file is read up to its end."""

    def __init__(self, path: Path, group: str) -> None:
        self._file, self._cut, self._damage = _open(path)
        self._datasets: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self.fields: Mapping[str, Field] = {}
        try:
            self.fields = self._find(group, path)
        except DataError:
            self.close()
            raise
        except (
            Exception
        ) as error:  # HDF5 raises any exception for metadata that is truncated or invalid
            self.close()
            why = self._damage or "damaged"
            raise DataError(f"{path}: {why}; its structure is lost: {one_line(error)}") from error

    def chunks(
        self, fields: Sequence[Field], max_events: int
    ) -> Iterator[tuple[int, ValuesByField]]:
        """Yield slices that end at the boundaries of the file's chunks."""
        step = max((self._datasets[f.offsets or f.name][0].chunks or (1,))[0] for f in fields)
        size = max(step, max_events // step * step)
        events = fields[0].events
        edges = [*range(0, events, size), events]
        yield from readable(lambda start, stop: self._read(fields, start, stop), spans(edges, size))
        if self._damage:
            raise DataError(self._damage)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._cut is not None:
            self._cut.close()

    def _find(self, group: str, path: Path) -> dict[str, Field]:
        if group not in self._file:
            hint = did_you_mean(group.strip("/"), self._file)
            raise DataError(f"{path}: group {group!r}: expected it in the file, got none", hint)
        node = self._file[group]
        if hasattr(node, "dtype"):
            return {f.name: f for f in self._members(node, "", node.dtype, ())}
        datasets: list[tuple[str, Any]] = []
        node.visititems(lambda name, item: datasets.append((name, item)))
        found = [f for name, item in datasets for f in self._fields(name, item)]
        return {field.name: field for field in found}

    def _fields(self, name: str, item: Any) -> Iterator[Field]:
        if hasattr(item, "dtype"):
            yield from self._members(item, name, item.dtype, ())

    def _members(
        self, item: Any, name: str, dtype: np.dtype[Any], path: tuple[str, ...]
    ) -> Iterator[Field]:
        """Yield the field of a dataset, or those of a compound, with names joined by dots."""
        if dtype.names:
            for member in dtype.names:
                inner = f"{name}.{member}" if name else member
                yield from self._members(item, inner, dtype[member], (*path, member))
            return
        self._datasets[name] = item, path
        events = item.shape[0] if item.shape else 0
        lists = _list_dtype(dtype) if not path and item.ndim == 1 else None
        base, shape = (lists, ()) if lists is not None else (dtype.base, dtype.shape)
        if not item.shape or base.kind not in "biuf" or base.itemsize > 8:
            yield Field(
                name=name, events=events, trouble=str(dtype) if item.shape else "a single value"
            )
            return
        plain = str(base.newbyteorder("="))
        yield Field(
            name=name,
            events=events,
            dtype=plain,
            shape=(*item.shape[1:], *shape),
            ragged=lists is not None,
        )

    def _read(self, fields: Sequence[Field], start: int, stop: int) -> ValuesByField:
        """Read each dataset once, and of a compound dataset only the needed members."""
        wanted: dict[str, tuple[Any, list[str]]] = {}
        for field in fields:
            if field.offsets:
                continue
            item, path = self._datasets[field.name]
            wanted.setdefault(item.name, (item, []))[1].extend(path[:1])
        slices = {
            name: (item.fields(sorted(set(members))) if members else item)[start:stop]
            for name, (item, members) in wanted.items()
        }
        parts = {}
        for field in fields:
            item, path = self._datasets[field.name]
            if field.offsets:
                parts[field.name] = self._items(field, start, stop)
                continue
            values = slices[item.name]
            for member in path:
                values = values[member]
            parts[field.name] = (
                _lists(values, field) if field.ragged else FieldValues(_native(values))
            )
        return parts

    def _items(self, field: Field, start: int, stop: int) -> FieldValues:
        """Read lists whose items are stored one after another."""
        item, path = self._datasets[field.name]
        begins, way = self._datasets[field.offsets]
        offsets = begins[start : stop + 1]
        for member in way:
            offsets = offsets[member]
        offsets = _native(offsets).astype(np.int64)
        check_offsets(offsets, len(item), f"{field.offsets} from event {start}")
        values = item[offsets[0] : offsets[-1]]
        for member in path:
            values = values[member]
        return FieldValues(_native(values), offsets - offsets[0])


def _open(path: Path) -> tuple[Any, _TruncatedFile | None, str | None]:
    """Return the open file; for a truncated one also the file object, and the error text."""
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"{path}: HDF5 files need the package h5py: {error}",
            hint="pip install 'sluice-daq[hdf5]'",
        ) from error
    try:
        return h5py.File(path, "r"), None, None
    except OSError as error:
        cut = _CUT.search(str(error))
        if cut is None:
            raise DataError(f"{path}: not an HDF5 file: {one_line(error)}") from error
    whole, size = int(cut["bytes"]), path.stat().st_size
    damage = f"cut short: expected {whole} bytes, got {size}"
    file = _TruncatedFile(path, whole)
    try:
        return h5py.File(file, "r"), file, damage
    except Exception as error:
        file.close()
        raise DataError(f"{path}: {damage}: {one_line(error)}") from error


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


def _list_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    import h5py

    kind = h5py.check_vlen_dtype(dtype)
    return kind if isinstance(kind, np.dtype) else None


def _lists(values: Array, field: Field) -> FieldValues:
    lengths = [len(entries) for entries in values]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    joined = np.concatenate(values) if len(values) else np.empty(0)
    return FieldValues(joined.astype(field.dtype, copy=False), offsets)


def _native(values: Array) -> Array:
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
