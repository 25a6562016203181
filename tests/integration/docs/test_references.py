"""Reference pages say neither more nor less than the code does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice.pipeline.cli.main import app
from sluice.pipeline.config.graph_file import (
    GraphTable,
    HttpTable,
    RunTable,
    SegmentTable,
    WorkersTable,
    load_graph,
    parse_graph,
)
from sluice.pipeline.config.plugins import available, build, load_class
from sluice.pipeline.core import errors
from sluice.pipeline.core.endpoints import Security
from sluice.pipeline.gpu.nvml import REASONS, Sample
from sluice.pipeline.graph.graph import Graph as BuiltGraph
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.service.prometheus import RunCollector
from sluice.pipeline.service.prometheus_gpu import GpuCollector
from sluice.pipeline.sources.tables.rules.mapping import ColumnMapping
from sluice.pipeline.stages.menu import TriggerPath as MenuPath

Rows = Callable[[str], list[list[str]]]
Section = Callable[[Path, str], str]

_OURS = "sluice.pipeline."
_PARTS = [
    (kind, use, part)
    for kind in ("source", "stage", "monitor", "sink")
    for use in available(kind)
    if (part := load_class(kind, use, "docs")).__module__.startswith(_OURS)
]


@pytest.fixture(scope="module")
def reference(root: Path) -> Path:
    return root / "docs" / "reference"


def _built(text: str | None = None) -> BuiltGraph:
    config = parse_graph(text, "docs") if text else load_graph("hgcal")
    source = build("source", config.source, config.origin)
    sink = build("sink", config.sink, config.origin)
    return build_graph(config, source.schema, sink.columns)


def _compare_defaults(kind: Any, documented: dict[str, str]) -> None:
    """Compare a struct's fields and defaults with a table's first and third column."""
    fields = msgspec.structs.fields(kind)
    assert set(documented) == {field.encode_name for field in fields}
    for field in fields:
        said = documented[field.encode_name]
        if field.required:
            assert said == "required", field.name
        elif field.default_factory is not msgspec.NODEFAULT:
            assert json.loads(said) == field.default_factory(), field.name
        elif isinstance(field.default, msgspec.Struct):
            assert msgspec.json.decode(said, type=type(field.default)) == field.default, field.name
        elif field.default is not None:
            default = field.default
            got = list(default) if isinstance(default, tuple) else default
            assert json.loads(said) == got, field.name


@pytest.mark.parametrize(
    ("table", "kind"),
    [("graph", GraphTable), ("workers", WorkersTable), ("run", RunTable), ("http", HttpTable)],
)
def test_graph_file_tables(
    reference: Path, section: Section, rows: Rows, table: str, kind: Any
) -> None:
    text = section(reference / "graph-file.md", f"## `[{table}]`")
    _compare_defaults(kind, {row[0]: row[2] for row in rows(text)})


def test_security_table(reference: Path, section: Section, rows: Rows) -> None:
    text = section(reference / "graph-file.md", "## Security")
    _compare_defaults(Security, {row[0]: row[2] for row in rows(text)})


def test_chain_table(reference: Path, section: Section, rows: Rows) -> None:
    text = section(reference / "graph-file.md", "## Chains of workers")
    _compare_defaults(SegmentTable, {row[0]: row[2] for row in rows(text)})


@pytest.mark.parametrize(
    ("kind", "use", "part"), _PARTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_graph_file_parts(
    root: Path, section: Section, rows: Rows, kind: str, use: str, part: Any
) -> None:
    heading = f"### {kind} `{use}`"
    pages = (root / "docs" / "reference" / "graph-file.md", *(root / "docs/families").glob("*.md"))
    (page,) = (page for page in pages if f"\n{heading}\n" in page.read_text())
    text = re.sub(r"^Each .*:$", "---8<---", section(page, heading), flags=re.M)
    text, _, inner = text.partition("---8<---")
    _compare_defaults(part.Options, {row[0]: row[2] for row in rows(text)})
    if inner:
        one = {"menu": MenuPath, "hdf5": ColumnMapping}[use]
        _compare_defaults(one, {row[0]: row[2] for row in rows(inner)})


def test_graph_file_example_joins(
    reference: Path, blocks: Callable[[Path, str], list[str]]
) -> None:
    (text,) = blocks(reference / "graph-file.md", "toml")
    assert _built(text).paths() == ["hard", "pileup"]


def _flat(value: Any, *keys: str) -> Iterator[str]:
    if isinstance(value, dict) and value and keys not in {("output",)}:
        for key, inner in value.items():
            yield from _flat(inner, *keys, key)
    else:
        yield ".".join(keys)


def test_report_keys(reference: Path, rows: Rows, tmp_path: Path) -> None:
    sluice = str(Path(sys.executable).parent / "sluice")
    for command in (
        ["simulate", "wafers", "--events", "2000", "--out", "w.arrows"],
        ["replay", "w.arrows", "--graph", "hgcal", "--engine", "inline", "--report", "r.json"],
    ):
        done = subprocess.run(
            [sluice, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    stage = next(iter(report["models"]))
    path = next(iter(report["paths"]))
    got = {
        re.sub(rf"^paths\.{path}$", "paths.<path>", re.sub(rf"\.{stage}\b", ".<stage>", key))
        for key in _flat(report)
        if not re.match(r"(stages|models)\.", key) or f".{stage}." in key
        if not key.startswith("paths.") or key == f"paths.{path}"
    }
    page = (reference / "report.md").read_text().partition("## Quarantine")[0]
    assert {row[0] for row in rows(page)} == got


def test_metric_names(reference: Path, rows: Rows) -> None:
    graph = _built()
    account = RunAccounting(graph, 1, Quarantine(None, graph.inputs))
    account.add_meters(MeterBlock(*graph.meter_names(), shadows=["tag/wafer-tagger@2"]))
    account.record_restart("compute-0")
    account.set_reference_bands({"emd": ReferenceBand(0.0, 1.0)})
    registry = CollectorRegistry()
    control = RunState()
    control.transition(State.CONFIGURED)
    control.transition(State.RUNNING)
    control.add_hold("disk full", "no space")
    registry.register(RunCollector(lambda: (account, control)))
    numbers = Sample.__struct_fields__[3:12]
    gpu = Sample(
        index=0, uuid="GPU-0", name="H100", **dict.fromkeys(numbers, 0.5),
        throttled=dict.fromkeys(REASONS, False), corrected=0, uncorrected=0,
    )  # fmt: skip
    registry.register(GpuCollector(lambda: [gpu]))
    exposed = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = (family.type, labels)
    documented = {
        name: (kind, {label.strip("` ") for label in labels.split(",") if label})
        for name, kind, labels, _ in (row for row in rows((reference / "metrics.md").read_text())
                                      if len(row) == 4)
    }  # fmt: skip
    assert documented == exposed


def test_exit_codes(reference: Path, rows: Rows) -> None:
    table = rows((reference / "exit-codes.md").read_text())
    documented = {row[2]: int(row[0]) for row in table if row[2]}
    known = [errors.SluiceError, *errors.SluiceError.__subclasses__()]
    ours = {kind.__name__: kind.exit_code for kind in known if kind.__module__ == errors.__name__}
    assert documented == ours
    assert str(errors.EXIT_DAMAGED_INPUT) in {row[0] for row in table}


def _leaves(command: Any, *names: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:  # names of an earlier release
            yield from _leaves(inner, *names, name)
    if not hasattr(command, "commands"):
        yield " ".join(names), command


def test_command_line(reference: Path) -> None:
    page = (reference / "cli.md").read_text()
    documented = {
        re.sub(r" (\[?[A-Z]+\]?|--\w+)", "", heading): set(
            re.findall(r"`(--[\w-]+)", heading + text)
        )
        | set(re.findall(r" (--[\w-]+)", heading))
        for heading, text in re.findall(r"^### `sluice ([^`]+)`\n(.*?)(?=^#|\Z)", page, re.M | re.S)
    }
    got = {
        name: {option for parameter in command.params for option in parameter.opts
               if option.startswith("--")} - {"--help"}
        for name, command in _leaves(typer.main.get_command(app))
    }  # fmt: skip
    assert documented == got


#: Names that are made of two parts in the code.
_MADE_OF_PARTS = {
    *(f"events-{name}" for name in ("lost", "shed", "invalid", "failed")),
    *(f"front-end-{what}" for what in ("connected", "gone")),
}


def test_events_of_the_log(root: Path) -> None:
    page = (root / "docs" / "howto" / "read-the-log.md").read_text()
    rows = re.findall(r"^\| (?:debug|info|warning|error) \| ([^|]*) \|", page, re.M)
    documented = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    code = "".join(path.read_text() for path in (root / "pipeline").rglob("*.py"))
    written = set(re.findall(r'fields\(\s*"([a-z-]+)"', code))
    written |= set(re.findall(r'limiter\.\w+\(\s*_LOG,\s*"([a-z-]+)"', code))
    written |= set(re.findall(r'^_(?:ERROR|REJECTED) = "([a-z-]+)"', code, re.M))
    assert documented == written | _MADE_OF_PARTS
