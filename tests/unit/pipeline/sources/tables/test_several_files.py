"""Several files of any format: in the order of their names, with the same columns."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.core.errors import DataError

formats = pytest.mark.parametrize(
    "kind", ["arrow-file", "arrow-stream", "csv", "hdf5", "parquet", "root-tree", "root-ntuple"]
)


@pytest.fixture
def parts(tmp_path, write):
    """Write files of one column, each with so many events; return a pattern and the source."""

    def written(kind, sizes, dtypes=()):
        first = 0
        for number, size in enumerate(sizes):
            dtype = dtypes[number] if dtypes else np.float32
            values = {"x": np.arange(first, first + size).astype(dtype)}
            name = f"run{number + 8}"  # run8, run9, run10
            if kind == "csv":
                lines = "".join(f"{value}\n" for value in values["x"].tolist())
                (tmp_path / f"{name}.csv").write_text(f"x\n{lines}")
            else:
                write(kind, values, name)
            first += size
        suffix = next(tmp_path.iterdir()).suffix
        return tmp_path / f"run*{suffix}", kind.partition("-")[0]

    return written


@formats
@pytest.mark.parametrize("max_events", [3, 1000])
def test_files_are_read_in_the_order_of_their_numbers(parts, read, kind, max_events):
    pattern, use = parts(kind, [5, 7, 4])
    got, source, rejected = read(use, pattern, max_events, columns={"x": "float32"})
    assert got["x"].tolist() == got["event_id"].tolist() == list(range(16))
    assert rejected == []
    assert source.expected == (None if use in ("arrow", "csv") else 16)


@pytest.mark.parametrize("kind", ["arrow-file", "arrow-stream", "hdf5", "parquet", "root-tree"])
def test_a_file_with_other_columns_is_named_before_the_run(parts, make, kind):
    pattern, use = parts(kind, [5, 5, 5], [np.float32, np.float32, np.float64])
    for columns in ({}, {"x": "float32"}):
        source = make(use, pattern, columns=columns)
        with pytest.raises(DataError, match=r"expected float32 as in .*, got float64") as error:
            source.open()
        source.close()
        assert f"run10{pattern.suffix}: column 'x'" in str(error.value)
        assert f"run8{pattern.suffix}" in str(error.value)


@pytest.mark.parametrize("kind", ["hdf5", "parquet", "arrow-file"])
def test_a_file_without_the_column_is_named(parts, write, make, kind):
    pattern, use = parts(kind, [5, 5])
    write(kind, {"y": np.arange(4.0)}, "run10")
    with pytest.raises(DataError, match=r"run10\.\w+: column 'x': expected 'x' in the file"):
        make(use, pattern, columns={"x": "float32"}).open()


def test_behind_a_damaged_file_the_next_is_read(parts, read):
    pattern, use = parts("arrow-stream", [50, 90, 50])
    middle = pattern.with_name("run9.arrows")
    middle.write_bytes(middle.read_bytes()[:-200])
    got, source, _ = read(use, pattern, columns={"x": "float32"})
    assert got["x"].tolist() == [*range(50 + 60), *range(140, 190)]
    assert "run9.arrows: damaged at event 60" in source.corruption


def test_rejected_events_say_their_file(parts, read):
    pattern, use = parts("parquet", [2, 3], [np.int16, np.int16])
    got, _, rejected = read(use, pattern, columns={"x": "uint16"})
    assert got["x"].tolist() == list(range(5))
    assert rejected == []


def test_a_pattern_without_files(tmp_path, make):
    for name in ("none*.h5", "none.h5", "."):
        with pytest.raises(DataError, match="cannot open"):
            make("hdf5", tmp_path / name).open()
