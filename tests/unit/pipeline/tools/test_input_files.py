"""The content of a file, not its name, decides how it is read; inspect tells what it holds."""

from __future__ import annotations

import json
import tomllib

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sluice.pipeline.cli.main import app
from sluice.pipeline.config.graph_file import load_graph, parse_graph
from sluice.pipeline.config.plugins import load_class
from sluice.pipeline.core.errors import ConfigError, DataError, SluiceError
from sluice.pipeline.tools.input_source import find_format, source_for
from sluice.pipeline.tools.table_summary import summarise_tables

h5py = pytest.importorskip("h5py", reason="the extra hdf5 is not installed")
uproot = pytest.importorskip("uproot", reason="the extra root is not installed")

TABLE = pa.table({"x": pa.array([1.5, None, 3.5]), "label": ["a", "b", "c"]})


def write_hdf5(path, **options):
    with h5py.File(path, "w", **options) as file:
        file.create_dataset("x", data=np.arange(3.0), chunks=(2,), compression="gzip")
        file["names"] = ["a", "b", "c"]
        file["link"] = h5py.SoftLink("/x")
        file["lost"] = h5py.SoftLink("/nowhere")


def write_arrow(path, opened):
    with opened(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITERS = {
    "arrow": [lambda path: write_arrow(path, pa.ipc.new_stream),
              lambda path: write_arrow(path, pa.ipc.new_file)],
    "csv": [lambda path: path.write_text("x,label\n1.5,a\n,b\n3.5,c\n")],
    "hdf5": [write_hdf5, lambda path: write_hdf5(path, userblock_size=1024)],
    "parquet": [lambda path: pq.write_table(TABLE, path)],
    "root": [lambda path: uproot.recreate(path).mktree("Events", {"x": "f8"}).extend(
        {"x": np.arange(3.0)})],
}  # fmt: skip
CASES = [(use, writer) for use, writers in WRITERS.items() for writer in writers]


@pytest.mark.parametrize("suffix", [".h5", ".csv", ".dat", ""])
@pytest.mark.parametrize(("use", "write"), CASES)
def test_the_content_decides(tmp_path, use, write, suffix):
    path = tmp_path / f"file{suffix}"
    write(path)
    assert find_format(path) == use
    config = source_for(path, load_graph("hgcal"))
    assert (config.use, config.options) == (use, {"path": str(path)})


@pytest.mark.parametrize(
    "name", ["PARENT_ID", "PAR1", "root", "root_mass", "CDF_pt", "FEA1", "ARROW1", "BZh"]
)
def test_names_that_begin_as_another_format_does(tmp_path, name):
    path = tmp_path / "file"
    path.write_text(f"{name},x\n1,2\n")
    assert find_format(path) == "csv"
    (summary,) = summarise_tables(path, "csv")
    assert [column.name for column in summary.columns] == [name, "x"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b\x08\x00", "compressed by gzip"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"\x93NUMPY\x01", "a NumPy file"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"FEA1", "a Feather file of version 1"),
        (b"\x00\x01\x02", "of no format that is known here"),
        (b"", "of no format that is known here"),
    ],
)
def test_files_that_no_source_reads(tmp_path, content, says):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises((ConfigError, DataError), match=says):
        source_for(path, load_graph("hgcal"))
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert isinstance(done.exception, ConfigError | DataError)


def test_the_graph_decides_where_the_content_does_not(tmp_path):
    path = tmp_path / "file.root"
    path.write_bytes(b"\x00 damaged")
    text = '[graph]\nname = "g"\n[source]\nuse = "hdf5"\npath = "x"\ngroup = "run"\n'
    text += 'columns = { x = "float32" }\n[sink]\nuse = "null"\n'
    config = source_for(path, parse_graph(text, "here"))
    columns = {"x": "float32"}
    assert (config.use, config.options) == (
        "hdf5", {"path": str(path), "group": "run", "columns": columns}
    )  # fmt: skip


@pytest.mark.parametrize(("use", "write"), CASES)
def test_inspect_tells_what_a_table_holds(tmp_path, use, write):
    path = tmp_path / "file"
    write(path)
    (summary,) = summarise_tables(path, use)
    columns = {column.name: column for column in summary.columns}
    x = columns["x"]
    assert (summary.format, x.form, x.events, x.problem) == (use, "float64", 3, "")
    if use in ("arrow", "csv", "parquet"):
        assert (x.nulls, x.first) == (1, ["1.5", "null", "3.5"])
    source = tomllib.loads(summary.source)
    assert source["source"]["use"] == use
    assert source["source"]["columns"]["x"] == "float64"
    assert not {"label", "names", "lost"} & set(source["source"]["columns"])
    done = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert done.exit_code == 0, done
    assert json.loads(done.output)[0]["columns"][0]["name"] == summary.columns[0].name
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert "in a graph:" in done.output


def test_inspect_of_an_hdf5_file_names_chunks_filters_and_links(tmp_path):
    write_hdf5(tmp_path / "t")
    (summary,) = summarise_tables(tmp_path / "t", "hdf5")
    columns = {column.name: column for column in summary.columns}
    assert columns["x"].storage == "chunks (2,) gzip"
    assert columns["link"].storage == "chunks (2,) gzip, a soft link to '/x'"
    assert columns["names"].problem == "no numbers: text"
    assert "a soft link to '/nowhere' that leads to nothing" in columns["lost"].problem


def test_inspect_of_a_csv_counts_the_cells_without_a_number(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,n,hits\n,1,[1 2]\n2,abc,[]\n3,4\n5,6,x\n7,8,[9]\n")
    (summary,) = summarise_tables(path, "csv")
    assert [(one.name, one.events, one.nulls, one.first) for one in summary.columns] == [
        ("x", 5, 2, ["null", "2.", "null"]),
        ("n", 5, 2, ["1.", "null", "null"]),
        ("hits", 5, 2, ["[1., 2.]", "[]", "null"]),
    ]


def test_the_source_that_inspect_shows_reads_columns_of_any_name(tmp_path):
    names = ["größe", "a b", "a-b", "a_b", "jet.pt", "+", "\N{GRINNING FACE}", 'q"\\', "1x", "\x7f"]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({name: [place] for place, name in enumerate(names)}), path)
    (summary,) = summarise_tables(path, "parquet")
    options = tomllib.loads(summary.source)["source"]
    assert options.pop("use") == "parquet"
    cls = load_class("source", "parquet", "test")
    source = cls("source", msgspec.convert(options, cls.Options))
    source.open()
    batch = source.read(1)
    source.close()
    found = [batch[name].tolist() for name in options["columns"]]
    assert found == [[place] for place in range(len(names))]
    assert {"jet_pt", "q", "a b", "a-b", "a_b", "größe"} <= set(options["columns"])


def test_inspect_lists_every_tree(tmp_path):
    with uproot.recreate(tmp_path / "t.root") as file:
        file["one"] = {"x": np.arange(3)}
        file["folder/two"] = {"y": np.arange(5)}
    found = summarise_tables(tmp_path / "t.root", "root")
    assert [(one.table, one.events) for one in found] == [("one", 3), ("folder/two", 5)]
    assert 'tree = "folder/two"' in found[1].source


@pytest.mark.parametrize(("use", "write"), CASES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_inspect_of_a_damaged_file_ends_with_a_word(tmp_path, use, write, share):
    path = tmp_path / "file"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    done = CliRunner().invoke(app, ["inspect", str(path)])
    assert done.exit_code in (0, 1, 6)
    assert done.exception is None or isinstance(done.exception, SystemExit | SluiceError)
