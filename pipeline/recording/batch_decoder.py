"""Decoder of the record batches of one file: nothing is taken from them before it is checked."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from sluice.pipeline.core.arrow import checksum_buffers, from_arrow, from_arrow_schema, validate
from sluice.pipeline.core.arrow_message import batch_rows, check_unpacked_size, custom_metadata
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import DataError

from .metadata import CHECKSUM, EOR, SEQ, Metadata, checksum

#: What Arrow and NumPy raise for bytes that are not what they should be.
UNREADABLE = (OSError, EOFError, ValueError, MemoryError, DataError, pa.ArrowException)


class Record(NamedTuple):
    """One record batch of a recording.

    Attributes
    ----------
    batch
        The events; none in an end-of-run record.
    metadata
        Metadata of the record batch.
    """

    batch: EventBatch
    metadata: Metadata

    @property
    def is_eor(self) -> bool:
        """Whether it is the end-of-run record."""
        return EOR in self.metadata


class BatchDecoder:
    """Decodes record batches; all that read recordings use it.

    Parameters
    ----------
    arrow_schema
        Schema of the file.
    where
        Name of the file, for error messages.

    Attributes
    ----------
    schema
        Columns of the events.

    Raises
    ------
    DataError
        If the schema has columns that are no numbers.
    """

    def __init__(self, arrow_schema: pa.Schema, where: str) -> None:
        self._arrow_schema = arrow_schema
        self.schema = from_arrow_schema(arrow_schema, where)

    def decode(self, message: pa.Message, index: int) -> Record:
        """Return the record in a message.

        Parameters
        ----------
        message
            Message of the file, after its schema.
        index
            Number of the record batch in the file: of the batch, if it has no number of its own.

        Raises
        ------
        DataError
            If it is damaged: no record batch of this file, too large, or with another checksum.
        """
        try:
            metadata = custom_metadata(message)
            check_unpacked_size(message)
            record_batch = pa.ipc.read_record_batch(message, self._arrow_schema)
            validate(record_batch, self.schema)
            seq = metadata.get(SEQ, b"")
            number = int(seq) if seq.isdigit() and len(seq) < 20 else index
            batch = from_arrow(record_batch, self.schema, number)
            self._check(batch, metadata)
        except DataError as error:
            raise DataError(f"{_name(message, index)}: {error.message}", error.hint) from error
        except UNREADABLE as error:
            raise DataError(f"{_name(message, index)}: {error}") from error
        return Record(batch, metadata)

    def _check(self, batch: EventBatch, metadata: Metadata) -> None:
        """Compare the checksum; a file of another program, or an early version, has none."""
        expected = metadata.get(CHECKSUM)
        if expected is None:
            return
        got = checksum(metadata, checksum_buffers(batch, self.schema) if batch.events else ())
        if got != expected:
            raise DataError(
                f"expected the checksum {expected.decode(errors='replace')}, got {got.decode()}: "
                "bytes have changed since they were written"
            )


def _name(message: pa.Message, index: int) -> str:
    """Return the name of a damaged record, for error messages."""
    try:
        if EOR in custom_metadata(message):
            return "end-of-run record"
        return f"batch {index} (of {batch_rows(message)} events)"
    except DataError:
        return f"batch {index}"
