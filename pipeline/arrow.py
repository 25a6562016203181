"""Batches as Apache Arrow record batches: the one form that wire and disk share."""

from __future__ import annotations

import math
import struct

import numpy as np
import pyarrow as pa

from .batch import Array, Column, EventBatch, Schema
from .errors import DataError

#: Of one schema that is read: columns, and numbers in one item of a column.
MAX_COLUMNS = 1024
MAX_ITEM = 1 << 24
#: Places in Arrow's flatbuffers: of the header in a Message, of the compression in a RecordBatch.
_HEADER_SLOT, _COMPRESSION_SLOT = 8, 10


def to_arrow_schema(schema: Schema, metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Return the Arrow schema of `schema`; unit and item shape travel as field metadata."""
    return pa.schema([_field(column) for column in schema], metadata=metadata)


def from_arrow_schema(schema: pa.Schema, where: str) -> Schema:
    """Return the columns of an Arrow schema, also of one that Sluice did not write.

    Raises
    ------
    DataError
        If a field is neither a number nor a fixed-size list of numbers.
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
        Read with an Arrow schema that belongs to `schema`, column by column, and validated.
    schema
        The columns.
    seq
        Sequence number of the batch.

    Raises
    ------
    DataError
        If a column has nulls.
    """
    columns = {
        column.name: _to_numpy(array, column, seq)
        for column, array in zip(schema, record_batch.columns, strict=True)
    }
    return EventBatch(columns, record_batch.num_rows, seq)


def is_compressed(message: pa.Message) -> bool:
    """Whether the body of a record batch message is compressed; `message` was checked by Arrow."""
    data = message.metadata
    try:
        (root,) = struct.unpack_from("<I", data, 0)
        header = _slot(data, root, _HEADER_SLOT)
        (offset,) = struct.unpack_from("<I", data, root + header)
        return header > 0 and _slot(data, root + header + offset, _COMPRESSION_SLOT) > 0
    except struct.error as error:
        raise DataError(f"record batch: not Arrow's metadata: {error}") from error


def _slot(data: pa.Buffer, table: int, slot: int) -> int:
    """Return where a flatbuffer table has a field, from its start; 0 if it lacks it."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    return int(struct.unpack_from("<H", data, table - back + slot)[0]) if size > slot else 0


def _field(column: Column) -> pa.Field:
    if np.dtype(column.dtype).kind not in "iuf":
        raise DataError(f"column {column.name!r}: expected numbers, got {column.form}")
    scalar = pa.from_numpy_dtype(np.dtype(column.dtype))
    length = math.prod(column.shape)
    kind = pa.list_(pa.field("item", scalar, nullable=False), length) if column.shape else scalar
    about = {
        "unit": column.unit,
        "shape": ",".join(map(str, column.shape)),
        "labels": ",".join(column.labels),
    }
    return pa.field(column.name, kind, nullable=False, metadata=about)


def _column(field: pa.Field, where: str) -> Column:
    about = {key: text.decode(errors="replace") for key, text in (field.metadata or {}).items()}
    labels = tuple(label for label in about.get(b"labels", "").split(",") if label)
    kind = field.type
    shape: tuple[int, ...] = ()
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
            f"{where}: column {field.name!r}: expected numbers or fixed-size lists of numbers, "
            f"got {field.type}"
        )
    dtype = str(np.dtype(kind.to_pandas_dtype()))
    return Column(field.name, dtype, shape, about.get(b"unit", "1"), labels)


def _to_array(array: Array, kind: pa.DataType) -> pa.Array:
    events = len(array)
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
    shape = (events, *column.shape)
    if events == 0:
        return np.empty(shape, column.dtype)
    offset = array.offset * column.item_bytes
    values = np.ndarray(shape, column.dtype, data, offset)
    # A socket may hand out memory at any address.
    return values if values.flags.aligned else values.copy()


def _inner_nulls(array: pa.Array) -> bool:
    return pa.types.is_fixed_size_list(array.type) and bool(array.values.null_count)
