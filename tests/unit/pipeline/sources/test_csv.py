"""Tables: good lines become events, bad lines are counted with number, reason and text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.csv import CsvSource

WORDS = ",".join(f"RX_DATA_{i}" for i in range(12))
CHARGES = ",".join(f"CALQ_{i}" for i in range(48))
GOOD = ",".join(f"{n:08x}" for n in range(12))


@pytest.fixture
def read(tmp_path):
    """Read a table; return the batches and everything that was rejected."""

    def read_all(content, max_events=100):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return drain(path, max_events)

    return read_all


def drain(path, max_events):
    source = CsvSource("source", CsvSource.Options(str(path)))
    source.open()
    batches, rejected = [], []
    try:
        while not source.exhausted:
            batch = source.read(max_events)
            rejected += source.losses().invalid
            if batch is not None:
                batch.check(source.schema, "csv")
                assert 0 < batch.events <= max_events
                batches.append(batch)
        assert source.read(max_events) is None
        assert source.losses().invalid == []
    finally:
        source.close()
    return batches, rejected


def ids(batches):
    return [event_id for batch in batches for event_id in batch["event_id"].tolist()]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "newline"])
def test_words(read, newline, end):
    text = newline.join([WORDS, *[GOOD] * 7]) + (newline if end else "")
    batches, rejected = read(text, max_events=3)
    assert rejected == []
    assert [batch.events for batch in batches] == [3, 3, 1]
    assert ids(batches) == list(range(7))
    assert batches[0]["words"].tolist() == [list(range(12))] * 3
    assert batches[2]["t_event"].tolist() == [6 * 25]


def test_charges(read):
    rows = [[0.5 * i for i in range(48)], [float(i) for i in range(48)]]
    batches, rejected = read("\n".join([CHARGES, *(",".join(map(str, row)) for row in rows)]))
    assert rejected == []
    assert batches[0]["charge"].tolist() == rows
    assert batches[0]["charge"].dtype == np.float32


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (GOOD.rpartition(",")[0], ("expected 12 fields, got 11",)),
        (GOOD + ",0", ("expected 12 fields, got 13",)),
        ("", ("expected 12 fields",)),
        ("   ", ("expected 12 fields",)),
        (GOOD.replace("00000003", "xyz"), ("RX_DATA_3", "hexadecimal", "'xyz'")),
        (GOOD.replace("00000003", ""), ("RX_DATA_3", "''")),
        (GOOD.replace("00000003", "100000000"), ("RX_DATA_3", "32 bits", "'100000000'")),
        (GOOD.replace("00000003", "-1"), ("RX_DATA_3", "32 bits", "'-1'")),
        (GOOD.replace("00000003", "f" * 5000), ("RX_DATA_3",)),
        (GOOD.replace("00000003", "0.5"), ("RX_DATA_3", "'0.5'")),
        (WORDS, ("RX_DATA_0",)),
    ],
)
def test_bad_lines_are_rejected_with_their_number(read, line, words):
    batches, rejected = read("\n".join([WORDS, GOOD, line, GOOD, ""]))
    assert ids(batches) == [0, 2]  # the event id is the row's number
    (bad,) = rejected
    assert bad.where == "table.csv: line 3"
    assert bad.events == 1
    assert bad.payload.decode() == line.strip()
    for word in words:
        assert word in bad.reason


def test_bytes_that_are_no_text(read):
    batches, rejected = read(f"{WORDS}\n{GOOD}\n".encode() + b"\xff\x00\xfe,1,2\n" + GOOD.encode())
    assert ids(batches) == [0, 2]
    assert len(rejected) == 1


@pytest.mark.parametrize("number", ["nan", "inf", "-5", "1e39", "-1e400"])
def test_charges_that_are_numbers_are_left_to_the_stages(read, number):
    line = ",".join([number, *["1"] * 47])
    batches, rejected = read(f"{CHARGES}\n{line}\n")
    assert rejected == []
    assert not 0 <= batches[0]["charge"][0, 0] < np.inf


def test_charges_that_are_no_numbers(read):
    batches, rejected = read("\n".join([CHARGES, ",".join(["1"] * 47 + ["one"])]))
    assert batches == []
    assert "CALQ_47: expected a number, got 'one'" in rejected[0].reason


def test_tables_without_events(read):
    for content in (WORDS, WORDS + "\n", WORDS + "\r\n"):
        assert read(content) == ([], [])


@pytest.mark.parametrize(
    "content", ["", "\n", GOOD, "a,b,c", WORDS + ",RX_DATA_12", WORDS.replace("_3", "_4"),
                CHARGES.rpartition(",")[0], b"\x00\xff", "ID," + WORDS]
)  # fmt: skip
def test_unknown_headers_are_refused(read, content):
    with pytest.raises(DataError, match=r"table\.csv: line 1: expected the header RX_DATA_0"):
        read(content)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "no.csv", tmp_path):
        source = CsvSource("source", CsvSource.Options(str(path)))
        with pytest.raises(DataError, match="cannot open"):
            source.open()


def test_thousands_of_bad_lines_in_a_row(read):
    batches, rejected = read("\n".join([WORDS, *["bad"] * 3000, GOOD]), max_events=1)
    assert ids(batches) == [3000]
    assert len(rejected) == 3000
    assert rejected[-1].where == "table.csv: line 3001"


def test_stop_reads_no_further(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([WORDS, *[GOOD] * 10]))
    source = CsvSource("source", CsvSource.Options(str(path)))
    source.open()
    assert source.read(4).events == 4
    source.stop()
    assert source.exhausted
    assert source.read(4) is None
    source.close()


LINES = st.lists(st.one_of(st.just(GOOD), st.text("0123456789abcdefxyz,. \t", max_size=120)),
                 max_size=12)  # fmt: skip


@given(LINES, st.integers(1, 5))
def test_every_line_is_an_event_or_a_rejection(tmp_path_factory, lines, max_events):
    path = tmp_path_factory.getbasetemp() / "lines.csv"
    path.write_text("".join(f"{line}\n" for line in [WORDS, *lines]))
    batches, rejected = drain(path, max_events)
    numbers = [int(bad.where.rpartition(" ")[2]) - 2 for bad in rejected]
    assert sorted(ids(batches) + numbers) == list(range(len(lines)))
    assert ids(batches) == sorted(ids(batches))
