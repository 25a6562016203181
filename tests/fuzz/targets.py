"""What is fuzzed: each reader of foreign bytes, as a function that may raise SluiceError only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from sluice.kernels import wafer
from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.arrow import to_arrow, to_arrow_schema
from sluice.pipeline.core.batch import EventBatch, Flag, concatenate
from sluice.pipeline.core.errors import SluiceError
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema
from sluice.pipeline.inference.repository import read_model
from sluice.pipeline.journal import batch_record
from sluice.pipeline.journal.commit import (
    BatchResult,
    CommitRecord,
    Journal,
    ModelSwapRecord,
    read_commit,
)
from sluice.pipeline.journal.recorded_run import RecordedRun
from sluice.pipeline.journal.resume_point import find_commits, read_resume_point
from sluice.pipeline.recording import (
    Recording,
    RecordingWriter,
    RotatingWriter,
    Rotation,
    part_path,
)
from sluice.pipeline.sources.tables.csv.source import CsvSource
from sluice.pipeline.tools.recording_summary import summarise_recording
from sluice.pipeline.transport.batch_summary import BatchSummary, pack_summary, unpack_summary
from sluice.pipeline.transport.codec import Codec, pack_schema, unpack_schema
from sluice.pipeline.transport.curve_keys import read_public
from sluice.pipeline.transport.front_end_messages import EventData
from sluice.pipeline.transport.protocol import (
    HEADER_BYTES,
    Kind,
    decode,
    encode,
    unpack_json,
)

RAGGED = (Column("hits", "float32", (None, 3)), Column("cells", "uint16", (None,), max_items=9))
SCHEMA = Schema(
    (EVENT_ID, T_EVENT, Column("words", "uint32", (12,)), Column("q", "float32"), *RAGGED)
)
_CODEC = Codec(SCHEMA)
_FOLDER = Path(tempfile.mkdtemp(prefix="sluice-fuzz-"))
#: Events that the header beside a fuzzed record batch announces.
_EVENTS = 3


def message(data: bytes) -> None:
    """Frames of a message, cut by the length of a header; encoded again they are the same."""
    frames = [data[:HEADER_BYTES], *([data[HEADER_BYTES:]] * (len(data) > 64))]
    header, payload = decode(frames)
    assert header.length == sum(frame.nbytes for frame in payload)
    again, found = decode([bytes(frame) for frame in encode(header, *payload)])
    assert again == header
    assert [bytes(frame) for frame in found] == [bytes(frame) for frame in payload]


def record_batch(data: bytes) -> None:
    """An Arrow record batch of a known schema; all of it must really be there."""
    batch = _CODEC.unpack(memoryview(data), _EVENTS, 0)
    _touch(batch, SCHEMA)
    again = _CODEC.unpack(memoryview(_CODEC.pack(batch)), _EVENTS, 0)
    assert _content([again], SCHEMA) == _content([batch], SCHEMA)


def schema(data: bytes) -> None:
    """The payload of BOR."""
    columns = unpack_schema(memoryview(data))
    for column in columns:
        assert column.item_bytes >= 0
    again = unpack_schema(memoryview(pack_schema(columns)))
    assert [column.spec for column in again] == [column.spec for column in columns]
    assert again.names == columns.names


def summary(data: bytes) -> None:
    """The payload of ACK."""
    got = unpack_summary(memoryview(data))
    assert len(np.frombuffer(got.counts, np.int64)) == 8
    assert unpack_summary(pack_summary(got)) == got


def text(data: bytes) -> None:
    """The payload of ERROR."""
    assert unpack_json([memoryview(data)], dict[str, str], "ERROR") == json.loads(data)


def recording(data: bytes) -> None:
    """A recording, also one that was cut or altered; a whole one is read as pyarrow reads it.

    Of a damaged one pyarrow may read what is not there, or crash.
    """
    path, batches = _file("fuzzed.arrows", data), []
    with contextlib.closing(Recording(path)) as reader:
        for batch in reader.batches(empty=True):
            _touch(batch, reader.schema)
            batches.append(batch)
        damaged = reader.corruption is not None
    rows = sum(batch.events for batch in batches)
    assert damaged or _content(batches, reader.schema) == _read_by_pyarrow(
        path, reader.schema.names, rows
    )


def part(data: bytes) -> None:
    """A part of a recording behind a sound one; parts are found by what they say they are."""
    first, second = _parts()
    folder = _FOLDER / "parts"
    folder.mkdir(exist_ok=True)
    (folder / "run.arrows").write_bytes(first)
    (folder / "run-0002.arrows").write_bytes(data)
    for path in (folder / "run.arrows", folder, folder / "run-0002.arrows"):
        try:
            reader = Recording(path)
        except SluiceError:
            continue
        with contextlib.closing(reader):
            events = sum(batch.events for batch in reader.batches())
            assert data != second or (reader.corruption is None and events in (3, 6))


def journal(data: bytes) -> None:
    """The journal in a recording that was cut or altered, as a sink goes on with it."""
    _, commits = find_commits([_file("journal.arrows", data)], 0)
    for commit in commits:
        for found in commit.unpacked():
            batch_record.unpack(found.batch_record)
    Journal(commits[-1] if commits else None)


def resume(data: bytes) -> None:
    """A recording that a run is resumed from: engine and sink go on after the same batch."""
    path = _file("resume.arrows", data)
    point = read_resume_point(path)
    _, commits = find_commits([path], point.commit.next)
    assert (commits[-1] if commits else CommitRecord()) == point.commit


def inspect(data: bytes) -> None:
    """A recording that `sluice inspect` sums up."""
    summary = summarise_recording(_file("inspect.arrows", data))
    assert summary.whole == (summary.damage is None)


def same_batches(data: bytes) -> None:
    """A recorded run whose batches are processed again."""
    run = RecordedRun(_file("run.arrows", data))
    for _, batch in run.batches():
        _touch(batch, run.schema)


def commit(data: bytes) -> None:
    """A commit record."""
    found = read_commit(data, "fuzzed")
    assert found.first + len(found.events_by_batch) == found.next
    assert read_commit(found.encode(), "again") == found
    for entry in found.unpacked():
        batch_record.unpack(entry.batch_record)
    Journal(found)


#: An ONNX file with an empty graph: a model's file is looked at when its manifest is.
_ONNX = b"\x08\x08:\x07\x12\x05emptyB\x04\n\x00\x10\x11"


def manifest(data: bytes) -> None:
    """A manifest beside a model file."""
    folder = _FOLDER / "model" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_ONNX)
    (folder / "manifest.toml").write_bytes(data)
    model = read_model(folder)
    Schema(tensor.column for tensor in (*model.manifest.inputs, *model.manifest.outputs))


def csv(data: bytes) -> None:
    """A table of chip words or charges."""
    options = CsvSource.Options(path=str(_file("fuzzed.csv", data)))
    source = CsvSource("source", options)
    source.open()
    try:
        while (batch := _next(source)) is not None:
            batch.check(source.schema, "survivor")
    finally:
        source.close()


def words(data: bytes) -> None:
    """Words of the front-end chip: any bits are charges."""
    rows = len(data) // 48
    charge = np.full((rows, 48), np.nan, np.float32)
    wafer.unpack(np.frombuffer(data[: rows * 48], "<u4").reshape(rows, 12), charge)
    assert np.isfinite(charge).all()
    assert (charge >= 0).all()


def graph(data: bytes) -> None:
    """A graph file."""
    parse_graph(data.decode(errors="replace"), "fuzzed")


def key(data: bytes) -> None:
    """A public key file."""
    read_public(_file("fuzzed.public", data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (message, record_batch, schema, summary, text, recording, part, journal, resume,
              inspect, same_batches, commit, manifest, csv, words, graph, key)
}  # fmt: skip


def survive(target: str, data: bytes) -> None:
    """Give `data` to a target; what it refuses it must refuse as SluiceError."""
    try:
        TARGETS[target](data)
    except SluiceError:
        return


def seeds(target: str) -> list[bytes]:
    """Return inputs that are sound, for a fuzzer to start from."""
    return _SEEDS[target]()


def _touch(batch: EventBatch, schema: Schema) -> None:
    """Read all of a batch: it must really be there, each list within its items."""
    batch.check(schema, "survivor")
    for column in schema:
        if not column.ragged:
            batch[column.name].tobytes()
            continue
        lists = batch.ragged(column.name)
        lists.check(column.name)
        assert sum(len(items.tobytes()) for items in lists) == lists.items.nbytes
        lists.take(np.arange(len(lists))[::-1])


def _content(batches: list[EventBatch], schema: Schema) -> dict[str, str]:
    """Return the values of each column as text, in which NaN is like NaN."""
    rows = [to_arrow(batch, schema, to_arrow_schema(schema)) for batch in batches if batch.events]
    return {
        name: repr([value for batch in rows for value in batch[name].to_pylist()])
        for name in schema.names
    }


def _read_by_pyarrow(path: Path, names: tuple[str, ...], rows: int) -> dict[str, str]:
    """Return the first rows of a file as pyarrow reads it, which checks nothing.

    It reads no further: behind the last sound batch there may be what crashes it.
    """
    values: dict[str, list[object]] = {name: [] for name in names}
    with contextlib.suppress(OSError, pa.ArrowException, StopIteration), pa.OSFile(str(path)) as f:
        stream, read = pa.ipc.open_stream(f), 0
        while read < rows:
            batch = stream.read_next_batch()
            read += batch.num_rows
            for name in names:
                values[name] += batch[name].to_pylist()
    return {name: repr(found[:rows]) for name, found in values.items()}


def _next(source: CsvSource) -> EventBatch | None:
    return source.read(1000)


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _batch() -> EventBatch:
    return EventBatch({c.name: c.sample_zeros(_EVENTS) for c in SCHEMA}, _EVENTS)


def _recording() -> bytes:
    path = _FOLDER / "seed.arrows"
    with RecordingWriter(path, SCHEMA, {"run": 1, "events": 6}) as writer:
        writer.write(_batch())
        writer.write(_batch())
    return path.read_bytes()


@cache
def _parts() -> tuple[bytes, bytes]:
    path = _FOLDER / "seeds" / "run.arrows"
    writer = RotatingWriter(path, SCHEMA, {"run": 1}, Rotation(bytes=1))
    writer.write(_batch())
    writer.write(_batch())
    writer.close({"run": 1})
    first, second = (part_path(path, number).read_bytes() for number in (1, 2))
    return first, second


def _commit() -> bytes:
    """Return the record of two batches, the second of which a swapped model has processed."""
    journal = Journal()
    journal.register_swap(
        ModelSwapRecord(epoch=1, stage="tag", name="tagger", version="2", sha256="ab")
    )
    ids, counts = np.arange(_EVENTS, dtype=np.uint64), [0, 0, _EVENTS, 0, 0, 0, 0, 0]
    packed = np.array(counts, np.int64).tobytes()
    results = []
    for seq in (0, 1):
        summary = BatchSummary(
            packed, bytes(512), 0, [], batch_record.pack_batch_record(seq, ids, counts, seq, 0)
        )
        results.append(BatchResult(seq, _EVENTS, _batch(), pack_summary(summary)))
    return journal.append(results)[0].encode()


def _journal() -> bytes:
    path = _FOLDER / "seed.journal.arrows"
    bor = {"run": 1, "config": {"sink": {"options": {"keep": "all"}}}}
    writer = RecordingWriter(path, SCHEMA, bor)
    writer.write(concatenate([_batch(), _batch()]), _commit())
    writer.close_incomplete()
    return path.read_bytes()


def _manifest() -> bytes:
    digest = hashlib.sha256(_ONNX).hexdigest()
    return (
        f'name = "model"\nversion = 1\nfamily = "wafers"\nsha256 = "{digest}"\n'
        'inputs = [{name = "image", dtype = "float32", shape = [8, 8]}]\n'
        'outputs = [{name = "y", dtype = "float32", shape = [2], labels = ["a", "b"]}]\n'
        "[metrics]\nloss = 0.5\n"
    ).encode()


def _tables() -> list[bytes]:
    out = []
    for prefix, entries, value in (("RX_DATA", 12, "01234567"), ("CALQ", 48, "12.5")):
        header = ",".join(f"{prefix}_{i}" for i in range(entries))
        rows = [",".join([value] * entries)] * 3
        out.append("\n".join([header, *rows, ""]).encode())
    out.append(b'\xef\xbb\xbfevent_id,"hits",label\n# by hand\n1,"[1, 2]","a\nb"\n2,[],c\n')
    return out


def _summary() -> bytes:
    return pack_summary(BatchSummary(bytes(64), bytes(512), 7, [Flag("stage", "why", 5, [0, 2])]))


_GRAPH = b"""[graph]
name = "g"
latency_budget = "5 ms"
[source]
use = "live"
columns = { words = "uint32[12]" }
[[stage]]
use = "wafer.unpack"
[sink]
use = "null"
[workers]
compute = 2
"""

_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "message": lambda: [
        b"".join(map(bytes, encode(EventData(Kind.RAW, 2, 3, 4, 5).to_header(), b"x" * 20)))
    ],
    "record_batch": lambda: [_CODEC.pack(_batch()).to_pybytes()],
    "schema": lambda: [pack_schema(SCHEMA).to_pybytes()],
    "summary": lambda: [_summary()],
    "text": lambda: [b'{"message": "no such column"}'],
    "recording": lambda: [_recording(), _journal(), *_parts()],
    "part": lambda: [_parts()[1]],
    "journal": lambda: [_journal()],
    "resume": lambda: [_journal()],
    "inspect": lambda: [_recording(), _journal(), *_parts()],
    "same_batches": lambda: [_journal()],
    "commit": lambda: [_commit()],
    "manifest": lambda: [_manifest()],
    "csv": _tables,
    "words": lambda: [bytes(96), b"\xff" * 96],
    "graph": lambda: [_GRAPH],
    "key": lambda: [b'public = "' + b"a" * 40 + b'"\n'],
}
