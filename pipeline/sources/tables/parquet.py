"""Events from Parquet files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.core.schema import Array

from .columns import FieldValues, ValuesByField
from .mapping import Field
from .source import TableSource, one_line


class ParquetTable:
    """One open file."""

    def __init__(self, path: Path) -> None:
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            self._file = pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)
            events = self._file.metadata.num_rows
            self.fields = {f.name: _field(f, events) for f in self._file.schema_arrow}
        except Exception as error:  # invalid metadata, such as names that are not UTF-8
            raise DataError(f"{path}: not a whole Parquet file: {one_line(error)}") from error

    def chunks(
        self, fields: Sequence[Field], max_events: int
    ) -> Iterator[tuple[int, ValuesByField]]:
        """Yield record batches."""
        first = 0
        for group in range(self._file.num_row_groups):
            try:
                for batch in self._group(group, [field.name for field in fields], max_events):
                    yield batch.num_rows, {f.name: _part(batch.column(f.name), f) for f in fields}
                    first += batch.num_rows
            except Exception as error:
                raise DataError(f"damaged at event {first}: {one_line(error)}") from error

    def _group(self, group: int, names: list[str], max_events: int) -> Iterator[pa.RecordBatch]:
        """Yield a row group; from a damaged place on in smaller and smaller steps."""
        done = 0
        while True:
            seen = 0
            try:
                for batch in self._file.iter_batches(
                    max_events, row_groups=[group], columns=names, use_threads=False
                ):
                    new = batch.slice(max(0, done - seen))
                    seen += batch.num_rows
                    if new.num_rows:
                        yield new
                        done = seen
                return
            except Exception:
                if max_events == 1:
                    raise
                max_events = max(1, max_events // 16)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _field(field: pa.Field, events: int) -> Field:
    kind, shape, ragged = field.type, [], False
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind, ragged = kind.value_type, True
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return Field(name=field.name, events=events, trouble=str(field.type))
    return Field(
        name=field.name,
        events=events,
        dtype=str(np.dtype(kind.to_pandas_dtype())),
        shape=tuple(shape),
        ragged=ragged,
    )


def _part(array: pa.Array, field: Field) -> FieldValues:
    """Return an Arrow array as field values; an event with any null has no value."""
    events = len(array)
    nulls = np.asarray(array.is_null()) if array.null_count else np.zeros(events, bool)
    offsets = None
    if field.ragged:
        ends = np.asarray(array.offsets).astype(np.int64)
        array, offsets = array.values.slice(ends[0], ends[-1] - ends[0]), ends - ends[0]
    items = len(array)
    for level in range(len(field.shape) + 1):
        if array.null_count:
            width = math.prod(field.shape[:level])
            bad = np.flatnonzero(np.asarray(array.is_null())) // width
            nulls[bad if offsets is None else np.searchsorted(offsets, bad, "right") - 1] = True
        if level < len(field.shape):
            size = field.shape[level]
            array = array.values.slice(array.offset * size, len(array) * size)
    if array.null_count:
        array = array.fill_null(False if field.dtype == "bool" else 0)
    values: Array = array.to_numpy(zero_copy_only=False).astype(field.dtype, copy=False)
    values = values.reshape(items, *field.shape)
    return FieldValues(values, offsets, nulls if nulls.any() else None)


class ParquetSource(TableSource):
    """Reads one Parquet file."""

    def open_table(self) -> ParquetTable:
        """Open the file."""
        return ParquetTable(self._path)
