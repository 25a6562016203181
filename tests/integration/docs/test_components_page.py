"""Which component has which capability: as the list here says, and the page on components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.config.plugins import available, build, load_class
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.inference import session
from sluice.pipeline.sources import base as sources
from sluice.pipeline.sources.paced import PacedSource
from sluice.pipeline.stages import capabilities as stages

ALL = (*stages.CAPABILITIES, *sources.CAPABILITIES, *session.CAPABILITIES)

#: Components that have a capability; all others that ship have none.
EXPECTED = {
    "stage infer": {
        "RunsModel",
        "LoadsModels",
        "SwapsModel",
        "TruncatesLists",
        "HasLadder",
        "HasShadows",
    },
    "stage gpu-chain": {"RunsModel", "LoadsModels", "Reports"},
    "monitor wafer.emd": {"LoadsModels"},
    "stage menu": {"BindsInputs", "Decides", "PassesThrough"},
    "stage jets.observe": {"BindsInputs"},
    "stage wafer.unpack": {"RunsOnGpu", "ProvidesFinite"},
    "stage wafer.normalise": {"RunsOnGpu", "ProvidesFinite"},
    "stage wafer.pack": {"RunsOnGpu", "ProvidesFinite", "Reports"},
    "source recording": {"SelectsColumns"},
    "source same-batches": {"SelectsColumns", "FixesRung"},
    "source hdf5": {"SelectsColumns"},
    "source arrow": {"SelectsColumns"},
    "source csv": {"SelectsColumns"},
    "source parquet": {"SelectsColumns"},
    "source root": {"SelectsColumns"},
    "source live": {"ProtectsPassThrough"},
    "backend onnxruntime": {"ChecksAvailability"},
    "backend tensorrt": {"ChecksAvailability", "HasTolerance"},
}

_FILE = {"path": "none"}
#: Options without which a component cannot be built; steps and paths come from shipped graphs.
_OPTIONS: dict[str, dict[str, Any]] = {
    "stage infer": {"model": "wafer-tagger"},
    "stage menu": {"path": []},
    "monitor wafer.emd": {"decoder": "wafer-decoder-9b"},
    "source hdf5": _FILE,
    "source arrow": _FILE,
    "source csv": _FILE,
    "source parquet": _FILE,
    "source recording": _FILE,
    "source root": _FILE,
    "source live": {"columns": {"words": "uint32[12]"}},
    "source same-batches": {"run": "none", "of": {"use": "csv", **_FILE}},
}


def _components() -> Iterator[tuple[str, Any]]:
    """Yield kind and name of every shipped component, and it; of sinks and backends the class."""
    (chain,) = (part for part in load_graph("hgcal-gpu").stages if part.use == "gpu-chain")
    for kind in ("source", "stage", "monitor", "sink", "backend"):
        for use in available(kind):
            cls = load_class(kind, use, "test")
            if not cls.__module__.startswith("sluice.pipeline."):
                continue
            name = f"{kind} {use}"
            if kind in ("sink", "backend"):
                yield name, cls
                continue
            wanted = chain.options if use == "gpu-chain" else _OPTIONS.get(name, {})
            known = set(cls.Options.__struct_fields__)
            options = {key: value for key, value in wanted.items() if key in known}
            yield name, build(kind, ComponentConfig(use, "part", options), "test")


def _names(component: Any) -> set[str]:
    return {kind.__name__ for kind in ALL if isinstance(component, kind)}


def test_every_component_has_the_capabilities_of_the_list() -> None:
    found = {name: _names(component) for name, component in _components()}
    assert {name: kinds for name, kinds in found.items() if kinds} == EXPECTED
    assert len(found) > len(EXPECTED)


def test_a_paced_source_has_a_schedule_and_selects_columns() -> None:
    inner = build("source", ComponentConfig("csv", "part", _FILE), "test")
    assert _names(PacedSource(inner, 1.0)) == {"HasSchedule", "SelectsColumns"}


def test_the_page_has_the_same_list(
    root: Path, section: Callable[[Path, str], str], rows: Callable[[str], list[list[str]]]
) -> None:
    text = section(root / "docs" / "reference" / "components.md", "## Capabilities")
    table = {row[0]: row[1:] for row in rows(text)}
    assert list(table) == [kind.__name__ for kind in ALL]
    for kind in ALL:
        name = kind.__name__
        methods, components, _ = table[name]
        assert {word.strip(" `") for word in methods.split(",")} == _members(kind), name
        documented = {word.replace("`", "").strip() for word in components.split(",")} - {"none"}
        assert documented == {one for one, kinds in EXPECTED.items() if name in kinds}, name


def _members(kind: Any) -> set[str]:
    named = {*vars(kind), *getattr(kind, "__annotations__", {})}
    return {name for name in named if not name.startswith("_")}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_something_without_the_methods_has_no_capability(kind: Any) -> None:
    assert not isinstance(Schema(), kind)
