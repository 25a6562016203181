"""What a graph file may use is found by name: entry points, and the modules of our detectors."""

import os

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import ComponentConfig
from sluice.pipeline.config.plugins import available, build, load_class
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.detectors.wafer import Emd, Unpack
from sluice.pipeline.stages.menu import Menu


def test_a_detector_s_stages_and_monitors_are_found_by_its_module():
    assert load_class("stage", "wafer.unpack", "here") is Unpack
    assert load_class("monitor", "wafer.emd", "here") is Emd
    assert load_class("stage", "menu", "here") is Menu


def test_all_names_are_known():
    assert {"menu", "infer", "wafer.unpack", "wafer.pack"} <= set(available("stage"))
    assert available("monitor") == [name for name in available("monitor") if "." in name]
    for kind in ("stage", "monitor", "source", "sink"):
        for name in available(kind):
            assert load_class(kind, name, "here").Options


@pytest.mark.parametrize(
    "use", ["wafer.unpak", "waffer.unpack", "wafer", "wafer.", ".unpack", "os"]
)
def test_a_wrong_name_is_refused_and_the_nearest_suggested(use):
    with pytest.raises(ConfigError, match="no stage is called") as refused:
        load_class("stage", use, "here")
    assert refused.value.hint


HITS = """
import numpy as np
from sluice.pipeline.api import Column, Schema, stage
CHARGE = Schema([Column("charge", "float32", (48,))])
@stage(consumes=CHARGE, provides=Schema([Column("hits", "uint16")]))
def hits(charge, *, threshold: float = 100.0):
    return (charge > threshold).sum(axis=1).astype(np.uint16)
@stage(consumes=CHARGE, provides=Schema([Column("low", "float32"), Column("high", "float32")]))
def range_of(batch):
    return {"low": batch["charge"].min(axis=1), "high": batch["charge"].max(axis=1)}
def plain(charge):
    return charge
"""


def _stage(folder, use, **options):
    return build("stage", ComponentConfig(use, "mine", options), str(folder / "graph.toml"))


def _charges(events):
    charge = np.arange(events * 48, dtype=np.float32).reshape(events, 48)
    return EventBatch({"charge": charge}, events)


def test_a_function_in_a_file_beside_the_graph_is_a_stage(tmp_path):
    (tmp_path / "hits.py").write_text(HITS)
    hits = _stage(tmp_path, "hits.py:hits", threshold=90)
    hits.open(2)
    assert hits.process(_charges(2))["hits"].tolist() == [0, 5]
    hits.close()
    both = _stage(tmp_path, "hits.py:range_of").process(_charges(2))
    assert both["low"].tolist() == [0, 48]
    assert both["high"].tolist() == [47, 95]
    with pytest.raises(ConfigError, match="treshold") as refused:
        _stage(tmp_path, "hits.py:hits", treshold=90)
    assert "threshold" in str(refused.value)


def test_files_of_one_name_do_not_meet_and_a_changed_file_is_read_again(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "hits.py").write_text(HITS.replace("100.0", f"{len(folder)}.0"))
    graphs = tmp_path
    assert _stage(graphs, "one/hits.py:hits")._keywords == {"threshold": 3.0}
    assert _stage(graphs, "other/hits.py:hits")._keywords == {"threshold": 5.0}
    (tmp_path / "one" / "hits.py").write_text(HITS)
    os.utime(tmp_path / "one" / "hits.py", ns=(1, 1))
    assert _stage(graphs, "one/hits.py:hits")._keywords == {"threshold": 100.0}


def test_a_class_of_any_module_is_a_component():
    for kind, cls in (("stage", Menu), ("monitor", Emd)):
        assert load_class(kind, f"{cls.__module__}:{cls.__name__}", "here") is cls
    for kind, use in (
        ("source", "sources.tables.csv.source:CsvSource"),
        ("sink", "sinks.null:NullSink"),
    ):
        assert load_class(kind, f"sluice.pipeline.{use}", "here").Options


@pytest.mark.parametrize(
    ("use", "says"),
    [
        ("nothing.py:hits", r"cannot import .*nothing\.py: No such file"),
        ("hits.py:hitz", r"has no 'hitz'\n  did you mean 'hits'"),
        ("hits.py:plain", r"expected a class made as cls\(name, options\), or a function with"),
        ("syntax.py:f", r"cannot import .*syntax\.py: SyntaxError"),
        ("raises.py:f", r"cannot import .*raises\.py: line 2: ZeroDivisionError"),
        ("no_such_module:f", "cannot import module 'no_such_module': ModuleNotFoundError"),
        ("wrong.py:f", "parameter 'sharge': expected `batch` alone.*\n.*did you mean 'charge'"),
        ("untyped.py:f", "option 'cut': expected a type and a default"),
    ],
)
def test_what_cannot_be_imported_is_reported_with_its_place(tmp_path, use, says):
    (tmp_path / "hits.py").write_text(HITS)
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("import os\n1 / 0\n")
    head, _, tail = HITS.partition("def hits(charge, *, threshold: float = 100.0)")
    (tmp_path / "wrong.py").write_text(f"{head}def f(sharge){tail}")
    (tmp_path / "untyped.py").write_text(f"{head}def f(charge, *, cut=1){tail}")
    with pytest.raises(ConfigError, match=says) as refused:
        _stage(tmp_path, use)
    assert str(refused.value).startswith(f"{tmp_path / 'graph.toml'}: stage 'mine'")
