"""A begin-of-run record that is none is refused, whatever is wrong with it."""

import pyarrow as pa
import pytest

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.recording import RecordingReader


@pytest.mark.parametrize("record", [b"{", b'{"run": "\xff"}', b"[" * 100_000, b"3"])
def test_a_record_that_is_none_is_refused(tmp_path, record):
    """Not JSON, not UTF-8, nested without end, no table: always with the file's name."""
    path = tmp_path / "r.arrows"
    schema = pa.schema([pa.field("event_id", pa.uint64(), nullable=False)])
    schema = schema.with_metadata({b"sluice.bor": record})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema):
        pass
    with pytest.raises(DataError, match=r"r\.arrows: begin-of-run record"):
        RecordingReader(path)


def test_a_file_that_begins_with_another_message_is_refused(tmp_path):
    """Arrow reads the bytes of whatever message stands there as a schema, and may crash."""
    path = tmp_path / "r.arrows"
    batch = pa.record_batch({"event_id": pa.array([1, 2], pa.uint64())})
    path.write_bytes(batch.serialize())
    with pytest.raises(DataError, match="expected a schema message, got one of type 'record batch"):
        RecordingReader(path)
