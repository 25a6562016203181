"""Events from Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sluice.pipeline.core.errors import DataError

from .arrow_types import arrow_chunk, fields_of, leaves_of
from .rules.field import NO_DEFAULTS, Field, TableChunk
from .source import TableSource
from .spans import one_line

#: Maximum size of the columns of a row group that are read, decompressed, bytes, if they take less
#: than this share of it in the file: memory for them is taken before their values are known.
_MAX_GROUP_BYTES, _MIN_SHARE = 1 << 30, 1 / 100


class ParquetTable:
    """One open file."""

    defaults = NO_DEFAULTS

    def __init__(self, path: Path) -> None:
        try:
            # Not memory-mapped: if a mapped file is truncated, reading it ends the process.
            self._file = pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)
            columns = [(field.name, field.type) for field in self._file.schema_arrow]
            self._leaves = leaves_of(columns, self._file.metadata.num_rows)
        except Exception as error:  # invalid metadata, such as names that are not UTF-8
            raise DataError(f"{path}: not a whole Parquet file: {one_line(error)}") from error
        self.fields = fields_of(self._leaves)

    def check(self, fields: Sequence[Field]) -> None:
        """Raise DataError if a row group would be decompressed to far more than its size."""
        names = {self._leaves[field.name].column for field in fields}
        schema = self._file.metadata.schema
        begins = tuple(f"{name}." for name in names)
        places = [
            place
            for place in range(len(schema))
            if f"{schema.column(place).path}.".startswith(begins)
        ]
        for number in range(self._file.num_row_groups):
            group = self._file.metadata.row_group(number)
            columns = [group.column(place) for place in places]
            size = sum(column.total_uncompressed_size for column in columns)
            stored = sum(column.total_compressed_size for column in columns)
            if size > _MAX_GROUP_BYTES and stored < size * _MIN_SHARE:
                raise DataError(
                    f"row group {number}: expected at most {_MAX_GROUP_BYTES} bytes from "
                    f"{stored} in the file, got {size}",
                    "write it in smaller row groups",
                )

    def chunks(self, fields: Sequence[Field], max_events: int) -> Iterator[TableChunk]:
        """Yield record batches."""
        leaves = {field: self._leaves[field.name] for field in fields}
        names = sorted({leaf.column for leaf in leaves.values()})
        first = 0
        for group in range(self._file.num_row_groups):
            try:
                for batch in self._group(group, names, max_events):
                    yield arrow_chunk(batch, leaves)
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

    def storage(self, field: Field) -> str:
        """Return nothing: there is one way to store a column."""
        return ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSource(TableSource):
    """Reads Parquet files."""

    def open_table(self, path: Path) -> ParquetTable:
        """Open a file."""
        return ParquetTable(path)
