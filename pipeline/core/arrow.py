"""Conversion between batches and Apache Arrow record batches, the format of messages and files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from .batch import EventBatch
from .errors import DataError
from .ragged import Ragged, check_offsets
from .schema import MAX_ITEM, Array, Column, Schema

#: Maximum number of columns of a schema that is read.
MAX_COLUMNS = 1024
#: Maximum number of items in one batch of a ragged column: Arrow's list offsets have 32 bits.
MAX_ITEMS = (1 << 31) - 1


def to_arrow_schema(schema: Schema, metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Return the Arrow schema of `schema`; unit and item shape are stored as field metadata."""
    return pa.schema([_field(column) for column in schema], metadata=metadata)


def from_arrow_schema(schema: pa.Schema, where: str) -> Schema:
    """Return the columns of an Arrow schema, also of one that Sluice did not write.

    Raises
    ------
    DataError
        If a field is neither a number, nor a list or a fixed-size list of numbers, nor a list of
        fixed-size lists.
    """
    if len(schema) > MAX_COLUMNS:
        raise DataError(f"{where}: expected at most {MAX_COLUMNS} columns, got {len(schema)}")
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: column names: {error}") from error
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: column {name!r}: expected it once, got it twice")
        seen.add(name)
    return Schema(_column(field, where) for field in schema)


def to_arrow(batch: EventBatch, schema: Schema, arrow_schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `schema` as a record batch that shares the batch's memory."""
    arrays = [
        _to_array(batch.columns[column.name], field.type)
        for column, field in zip(schema, arrow_schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema)


def from_arrow(record_batch: pa.RecordBatch, schema: Schema, seq: int = 0) -> EventBatch:
    """Return the columns as NumPy views of an Arrow record batch.

    Parameters
    ----------
    record_batch
        Record batch that `validate` accepted; its fields match the columns of `schema` one by one.
    schema
        Columns to return.
    seq
        Sequence number of the batch.

    Returns
    -------
    EventBatch
        The events; its arrays share the memory of the record batch.

    Raises
    ------
    DataError
        If a column has nulls.
    """
    columns = {
        column.name: _to_lists(array, column, seq)
        if column.ragged
        else _to_numpy(array, column, seq)
        for column, array in zip(schema, record_batch.columns, strict=True)
    }
    return EventBatch(columns, record_batch.num_rows, seq)


def validate(record_batch: pa.RecordBatch, schema: Schema) -> None:
    """Check that the buffers and offsets of a record batch are consistent.

    Files and messages of other programs may hold any bytes, and a wrong offset would be read as
    memory beyond the buffer.

    Raises
    ------
    DataError, pa.ArrowException
        If they are not; the message names the column.
    """
    if schema.ragged:
        for column, array in zip(schema, record_batch.columns, strict=True):
            if column.ragged:
                items = _item_count(array.values, column)
                check_offsets(_offsets(array, column), items, f"column {column.name!r}")
    record_batch.validate()


def _item_count(values: pa.Array, column: Column) -> int:
    try:
        return len(values)
    except (SystemError, ValueError) as error:  # Python has no length below zero
        raise DataError(
            f"column {column.name!r}: expected some items or none, got fewer than none"
        ) from error


def checksum_buffers(batch: EventBatch, schema: Schema) -> Iterator[Array]:
    """Yield the arrays that a checksum covers: values, and int32 offsets of ragged columns."""
    for column in schema:
        if not column.ragged:
            yield batch[column.name]
            continue
        lists = batch.ragged(column.name)
        yield (lists.offsets - lists.offsets[0]).astype(np.int32)
        yield lists.items


def _field(column: Column) -> pa.Field:
    if np.dtype(column.dtype).kind not in "iuf":
        raise DataError(f"column {column.name!r}: expected numbers, got {column.spec}")
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    if column.item_shape:
        length = math.prod(column.item_shape)
        kind = pa.list_(pa.field("item", kind, nullable=False), length)
    about = {
        "unit": column.unit,
        "shape": ",".join(map(str, column.item_shape)),
        "labels": ",".join(column.labels),
    }
    if column.ragged:
        kind = pa.list_(pa.field("item", kind, nullable=False))
        about["most"] = str(column.max_items)
    return pa.field(column.name, kind, nullable=False, metadata=about)


def _column(field: pa.Field, where: str) -> Column:
    about = {key: text.decode(errors="replace") for key, text in (field.metadata or {}).items()}
    labels = tuple(label for label in about.get(b"labels", "").split(",") if label)
    kind = field.type
    shape: tuple[int | None, ...] = ()
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    limit_text = about.get(b"most", "") if lists else ""
    kind = kind.value_type if lists else kind
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        if not 0 <= size <= MAX_ITEM:
            raise DataError(
                f"{where}: column {field.name!r}: expected lists of at most {MAX_ITEM} numbers, "
                f"got {size}"
            )
        written = tuple(int(n) for n in about.get(b"shape", "").split(",") if n.isdecimal())
        shape = written if written and math.prod(written) == size else (size,)
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(
            f"{where}: column {field.name!r}: expected numbers or lists of numbers, "
            f"got {field.type}"
        )
    dtype = str(np.dtype(kind.to_pandas_dtype()))
    shape = (None, *shape) if lists else shape
    # Text that is not a number, or a number with ten digits or more, means no limit.
    limit = (
        int(limit_text)
        if limit_text.isascii() and limit_text.isdecimal() and len(limit_text) < 10
        else 0
    )
    return Column(field.name, dtype, shape, about.get(b"unit", "1"), labels, limit)


def _to_array(array: Any, kind: pa.DataType) -> pa.Array:
    events = len(array)
    if type(array) is Ragged:
        if len(array.items) > MAX_ITEMS:
            raise DataError(
                f"expected at most {MAX_ITEMS} items in a batch, got {len(array.items)}"
            )
        offsets = pa.py_buffer((array.offsets - array.offsets[0]).astype(np.int32))
        items = _to_array(array.items, kind.value_type)
        return pa.Array.from_buffers(kind, events, [None, offsets], children=[items])
    values = pa.py_buffer(np.ascontiguousarray(array).reshape(-1))
    if not pa.types.is_fixed_size_list(kind):
        return pa.Array.from_buffers(kind, events, [None, values])
    child = pa.Array.from_buffers(kind.value_type, array.size, [None, values])
    return pa.Array.from_buffers(kind, events, [None], children=[child])


def _to_numpy(array: pa.Array, column: Column, seq: int) -> Array:
    *validity, data = array.buffers()
    if any(bits is not None for bits in validity) and (array.null_count or _inner_nulls(array)):
        raise DataError(f"record batch {seq}: column {column.name!r}: expected no nulls, got some")
    events = len(array)
    shape = (events, *column.item_shape)
    if events == 0:
        return np.empty(shape, column.dtype)
    offset = array.offset * column.item_bytes
    values = np.ndarray(shape, column.dtype, data, offset)
    # A socket may hand out memory at any address.
    return values if values.flags.aligned else values.copy()


def _inner_nulls(array: pa.Array) -> bool:
    return pa.types.is_fixed_size_list(array.type) and bool(array.values.null_count)


def _to_lists(array: pa.Array, column: Column, seq: int) -> Ragged:
    if array.null_count:
        raise DataError(f"record batch {seq}: column {column.name!r}: expected no nulls, got some")
    values = _to_numpy(array.values, column, seq)
    return Ragged(values, _offsets(array, column).astype(np.int64))


def _offsets(array: pa.Array, column: Column) -> Array:
    """Return the offsets of the lists, (events + 1,), a view; DataError if the buffer is short."""
    dtype = np.int64 if pa.types.is_large_list(array.type) else np.int32
    events, data = _item_count(array, column), array.buffers()[1]
    # Arrow permits an empty offsets buffer for zero lists.
    if not events and (data is None or not data.size):
        return np.zeros(1, dtype)
    size = np.dtype(dtype).itemsize
    needed, got = (array.offset + events + 1) * size, data.size if data is not None else 0
    if got < needed:
        raise DataError(
            f"column {column.name!r}: expected {needed} bytes of offsets for {events} lists, "
            f"got {got}"
        )
    return np.frombuffer(data, dtype, events + 1, array.offset * size)
