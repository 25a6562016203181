"""Payloads that hold events: Arrow record batches and packed records of one schema."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sluice.pipeline.core.arrow import (
    from_arrow,
    from_arrow_schema,
    to_arrow,
    to_arrow_schema,
    validate,
)
from sluice.pipeline.core.arrow_message import is_compressed
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError, ProtocolError
from sluice.pipeline.core.schema import Schema

from .protocol import MAX_TEXT_BYTES


class Codec:
    """Writes and reads the record batches of one schema; BOR or the graph has fixed the schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.arrow_schema = to_arrow_schema(schema)

    def pack(self, batch: EventBatch) -> pa.Buffer:
        """Return the batch's columns as one encapsulated Arrow record-batch message."""
        return to_arrow(batch, self.schema, self.arrow_schema).serialize()

    def unpack(self, frame: memoryview, events: int, seq: int) -> EventBatch:
        """Return the batch in `frame`, as views of it.

        Raises
        ------
        ProtocolError
            If the frame is not a record batch of this schema with `events` rows.
        """
        try:
            message = pa.ipc.read_message(pa.py_buffer(frame))
            if is_compressed(message):  # a small message could unpack to any size
                raise DataError("expected a record batch that is not compressed")
            record_batch = pa.ipc.read_record_batch(message, self.arrow_schema)
            validate(record_batch, self.schema)
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise ProtocolError(f"batch {seq}: not an Arrow record batch: {error}") from error
        except DataError as error:
            raise ProtocolError(f"batch {seq}: {error.message}") from error
        if record_batch.num_rows != events:
            raise ProtocolError(
                f"batch {seq}: header says {events} events, record batch has "
                f"{record_batch.num_rows}"
            )
        try:
            return from_arrow(record_batch, self.schema, seq)
        except DataError as error:
            raise ProtocolError(error.message) from error


def pack_schema(schema: Schema) -> pa.Buffer:
    """Return the schema as an encapsulated Arrow schema message (payload of BOR)."""
    return to_arrow_schema(schema).serialize()


def unpack_schema(frame: memoryview) -> Schema:
    """Return the schema in a BOR's payload, or raise ProtocolError."""
    if frame.nbytes > MAX_TEXT_BYTES:
        raise ProtocolError(f"BOR: expected at most {MAX_TEXT_BYTES} bytes, got {frame.nbytes}")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(frame))
        for field in schema:
            if pa.types.is_large_list(field.type):
                raise DataError(f"column {field.name!r}: expected a list, got {field.type}")
        return from_arrow_schema(schema, "BOR")
    except (pa.ArrowException, OSError, EOFError, ValueError, DataError) as error:
        raise ProtocolError(f"BOR: not a schema of numbers: {error}") from error


def record_dtype(schema: Schema) -> np.dtype[np.void]:
    """Return the packed little-endian record of a RAW message: the columns in order, no padding.

    Records have one size: ragged columns cannot be in them.
    """
    return np.dtype(
        [(c.name, np.dtype(c.dtype).newbyteorder("<"), c.item_shape) for c in schema], align=False
    )
