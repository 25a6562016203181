"""The record type of a live stream: the columns that every front end sends, as packed records."""

from __future__ import annotations

import numpy as np

from sluice.pipeline.core.errors import ProtocolError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.transport.codec import Codec, record_dtype
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import Kind


class RecordType:
    """Columns of an event as front ends send them.

    Parameters
    ----------
    schema
        The columns, in the order of the packed record.

    Attributes
    ----------
    dtype
        Packed record of one event; meaningless for ragged columns.
    codec
        Reads record batches of the columns.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.dtype = record_dtype(schema)
        self.codec = Codec(schema)

    def require_same(self, schema: Schema) -> None:
        """Raise ProtocolError unless a front end declares the same columns in the same order."""
        for column in self._schema:
            got = schema[column.name].spec if column.name in schema else "no such column"
            if got != column.spec:
                raise ProtocolError(
                    f"BOR: column {column.name!r}: expected {column.spec}, got {got}"
                )
        if schema.names != self._schema.names:
            raise ProtocolError(
                f"BOR: expected the columns {self._schema.names} in this order, got {schema.names}"
            )

    def packed(self, message: EventData, payload: list[memoryview]) -> memoryview:
        """Return the packed records of a message without ragged columns; or raise ProtocolError."""
        if len(payload) != 1:
            raise ProtocolError(f"message: expected 1 payload frame, got {len(payload)}")
        if message.kind == Kind.RAW:
            wanted = message.events * self.dtype.itemsize
            if message.length != wanted:
                raise ProtocolError(
                    f"RAW message: expected {wanted} bytes for {message.events} events, "
                    f"got {message.length}"
                )
            return payload[0]
        batch = self.codec.unpack(payload[0], message.events, message.seq)
        records = np.empty(batch.events, self.dtype)
        for name in self._schema.names:
            records[name] = batch[name]
        return records.view(np.uint8).data
