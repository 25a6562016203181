"""Tables: good lines become events, bad lines are counted with number, reason and text."""

from __future__ import annotations

import msgspec
import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.core.errors import DataError
from sluice.pipeline.sources.tables.csv.source import CsvSource
from sluice.pipeline.sources.tables.rules.mapping import RESERVED

WORDS = ",".join(f"RX_DATA_{i}" for i in range(12))
CHARGES = ",".join(f"CALQ_{i}" for i in range(48))
GOOD = ",".join(f"{n:08x}" for n in range(12))


@pytest.fixture
def read(tmp_path):
    """Read a table; return the batches and everything that was rejected."""

    def read_all(content, max_events=100, columns=None):
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return drain(path, max_events, columns)

    return read_all


def drain(path, max_events, columns=None):
    options = {"path": str(path), "columns": columns or {}}
    source = CsvSource("source", msgspec.convert(options, CsvSource.Options))
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
        ("", ("expected 12 fields, got an empty line",)),
        ("   ", ("expected 12 fields, got an empty line",)),
        ('"', ("expected 12 fields, got a quote that is not closed",)),
        ('"a"b' + GOOD, ("expected 12 fields, got a wrong quote",)),
        (GOOD.replace("00000003", "xyz"), ("RX_DATA_3", "hexadecimal", "'xyz'")),
        (GOOD.replace("00000003", ""), ("RX_DATA_3", "''")),
        (GOOD.replace("00000003", "100000000"), ("RX_DATA_3", "uint32", "4294967296")),
        (GOOD.replace("00000003", "-1"), ("RX_DATA_3", "hexadecimal", "'-1'")),
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
    assert bad.payload.decode() == line
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
    ("content", "where"),
    [
        ("", "line 1: expected a header with the names of columns, got nothing"),
        ("\n", "line 1: expected a header"),
        ("1,2,3\n4,5,6\n", "line 1: expected a header .*, got numbers: '1,2,3'"),
        ("# a,b\n1,2\n", "line 2: expected a header .*, got numbers: '1,2'"),
        ("a;b;c\n1;2;3\n", "line 1: .* separated by commas, got 'a;b;c'"),
        ("a\tb\n1\t2\n", "line 1: .* separated by commas"),
        (b"\x00\xff", "line 1: expected a header"),
        ("a,b".encode("utf-16"), "text in UTF-16"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        ('"a,b\n1,2\n', "line 1: expected a header"),
    ],
)
def test_files_without_a_header_are_refused(read, content, where):
    with pytest.raises(DataError, match=r"table\.csv: .*" + where):
        read(content)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "no.csv", tmp_path):
        source = CsvSource("source", CsvSource.Options(str(path)))
        with pytest.raises(DataError, match="cannot open"):
            source.open()


def test_thousands_of_bad_lines_in_a_row(read):
    batches, rejected = read("\n".join([WORDS, *["bad"] * 900, GOOD]), max_events=1)
    assert ids(batches) == [900]
    assert [bad.where for bad in rejected] == [f"table.csv: line {n}" for n in range(2, 902)]


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
    while lines and not lines[-1].strip():  # empty lines at the end are none
        lines.pop()
    assert sorted(ids(batches) + numbers) == list(range(len(lines)))
    assert ids(batches) == sorted(ids(batches))


def table(read, text, **columns):
    """Return the values of a table by column, and what was rejected, by line."""
    batches, rejected = read(text, columns=columns)
    names = ("event_id", "t_event", *(name for name in columns if name not in RESERVED))
    values = {name: [v for batch in batches for v in batch[name].tolist()] for name in names}
    return values, {bad.where.partition(": line ")[2]: bad.reason for bad in rejected}


def test_a_byte_order_mark_quotes_comments_and_an_index(read):
    text = '\ufeff,energy,label\r\n# made by hand\r\n0,1.5,"a,b"\r\n1,"2.5",c\r\n\r\n \r\n'
    values, rejected = table(read, text, energy="float64")
    assert (values["energy"], values["event_id"], rejected) == ([1.5, 2.5], [0, 1], {})


def test_a_quoted_cell_may_have_several_lines(read):
    text = 'energy,label\n1,"a\nb"\n2,"c ""d"" e"\n3,f\n'
    values, rejected = table(read, text, energy="float32")
    assert (values["energy"], values["event_id"], rejected) == ([1, 2, 3], [0, 1, 2], {})


def test_a_quote_that_is_not_closed_costs_one_event(read):
    text = 'energy,label\n1,a\n2,"b\n3,c\n4,d\n'
    values, rejected = table(read, text, energy="float32")
    assert (values["energy"], values["event_id"]) == ([1, 3, 4], [0, 2, 3])
    assert rejected == {"3": "expected 2 fields, got a quote that is not closed"}


def test_a_line_that_is_too_long_costs_one_event_and_is_never_cut(read, monkeypatch):
    monkeypatch.setattr("sluice.pipeline.sources.tables.csv.lines._MAX_CHARACTERS", 16)
    text = 'energy,hits\n1,1;2\n2,1;2;3;4;5;6;7;8;9;10\n3,3\n4,"1,2,3,4,5,6,7,8"\n5,4'
    values, rejected = table(read, text, energy="float32", hits="float32[*]")
    assert (values["energy"], values["hits"]) == ([1, 3, 5], [[1, 2], [3], [4]])
    assert rejected == {
        "3": "expected 2 fields, got a line of 16 characters or more",
        "5": "expected 2 fields, got a quote that is not closed",
    }


def test_a_column_named_twice_is_refused_only_if_it_is_read(read):
    text = "x,y,x\n1,2,3\n"
    assert table(read, text, y="int64")[0]["y"] == [2]
    with pytest.raises(DataError, match=r"column 'x': .* got several columns of this name"):
        table(read, text, x="int64")


def test_integers_are_exact_and_others_are_refused_alone(read):
    text = "event_id,n\n9007199254740993,1\n2,1.5\n-3,3\n4,\n1e3,5\n18446744073709551615,6\n"
    values, rejected = table(read, text, n="int32")
    assert values["event_id"] == [9007199254740993, 2**64 - 1]
    assert values["n"] == [1, 6]
    assert rejected == {
        "3": "n: expected a whole number, got '1.5'",
        "4": "event_id: expected a whole number from 0, got '-3'",
        "5": "n: expected a whole number, got ''",
        "6": "event_id: expected a whole number from 0, got '1e3'",
    }


def test_hexadecimal_numbers_are_none_whatever_the_other_lines_hold(read):
    for other in ("5", " 5 ", "True"):
        values, rejected = table(read, f"n\n0x10\n{other}\n-0X1\n", n="int32")
        assert values["n"] == [1 if other == "True" else 5]
        assert rejected == {
            "2": "n: expected a whole number, got '0x10'",
            "4": "n: expected a whole number, got '-0X1'",
        }


def test_lists_in_cells(read):
    text = 'hits\n"[1, 2]"\n[]\n[3 4 5]\n6;7\n""\n"[[1],[2]]"\n"[1, x]"\n8\n'
    batches, rejected = read(text, columns={"hits": "float32[*]"})
    assert [hits for batch in batches for hits in batch["hits"].tolist()] == [
        [1, 2], [], [3, 4, 5], [6, 7], [8]
    ]  # fmt: skip
    assert [(bad.where.rpartition(" ")[2], bad.reason) for bad in rejected] == [
        ("6", "hits: expected a list, got ''"),
        ("7", "hits: expected a list, got '[[1],[2]]'"),
        ("8", "hits: expected a number, got 'x'"),
    ]


def test_lists_of_items_of_several_numbers(read):
    text = 'at\n"[1 2 3 4]"\n"[5 6 7]"\n[8]\n[]\nx\n"[9 10]"\n'
    batches, rejected = read(text, columns={"at": "float32[*,2]"})
    assert [at for batch in batches for at in batch["at"].tolist()] == [
        [[1, 2], [3, 4]], [], [[9, 10]]
    ]  # fmt: skip
    assert [(bad.where.rpartition(" ")[2], bad.reason) for bad in rejected] == [
        ("3", "at: expected 2 numbers for each item, got 3"),
        ("4", "at: expected 2 numbers for each item, got 1"),
        ("6", "at: expected a number, got 'x'"),
    ]


def test_an_item_that_is_missing_costs_its_event(read):
    text = 'hits\n"[1,,2]"\n"(1,)"\n"[,1]"\n1;2;\n'
    batches, rejected = read(text, columns={"hits": "int32[*]"})
    assert [hits for batch in batches for hits in batch["hits"].tolist()] == [[1], [1, 2]]
    assert [(bad.where.rpartition(" ")[2], bad.reason) for bad in rejected] == [
        ("2", "hits: expected a whole number, got ''"),
        ("4", "hits: expected a whole number, got ''"),
    ]


def test_times_in_seconds(read):
    values, rejected = table(
        read, "t,x\n1.5,1\nnan,2\n", x="int8", t_event={"from": "t", "unit": "s"}
    )
    assert values["t_event"] == [1_500_000_000]
    assert list(rejected) == ["3"]


def test_columns_of_text_are_left_out(read):
    batches, _ = read("run,x,good,hits\na,1,True,[1 2]\nb,2,False,[3]\n")
    assert set(batches[0].columns) == {"event_id", "t_event", "t_ingest", "x", "good", "hits"}
    assert batches[0]["good"].tolist() == [1, 0]
    assert batches[0]["hits"].tolist() == [[1, 2], [3]]


@pytest.mark.data("tracks/vertexing_event_mu20_tracks.csv")
def test_real_tables(data_dir, make):
    """Against pandas: every column of numbers of a real table."""
    path = data_dir / "tracks" / "vertexing_event_mu20_tracks.csv"
    source = make("csv", path)
    source.open()
    batch = source.read(10_000)
    source.close()
    expected = pandas.read_csv(path)
    for name in expected.columns:
        np.testing.assert_allclose(batch[name], expected[name], rtol=1e-15)
