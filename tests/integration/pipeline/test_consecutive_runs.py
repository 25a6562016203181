"""Runs of one process, one after the other: what one has taken is free for the next."""

from __future__ import annotations

import gc
import weakref

import pytest
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.engine.distributed.engine import DistributedEngine
from sluice.pipeline.engine.inline import InlineEngine
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions

ENGINES = {"inline": InlineEngine, "distributed": DistributedEngine}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_goes_when_its_run_has_ended(wafers, monkeypatch, name):
    engine, engines = ENGINES[name], []
    begin = engine.__init__

    def noted(self, *args):
        engines.append(weakref.ref(self))
        begin(self, *args)

    monkeypatch.setattr(engine, "__init__", noted)
    config = replace(
        load_graph("hgcal"), sink=ComponentConfig("null", "null", {}),
        source=ComponentConfig("recording", "wafers", {"path": str(wafers)}),
    )  # fmt: skip
    for _ in range(2):
        assert run_graph(config, RunOptions(run=UNNUMBERED, engine=name))["closed"]
    gc.collect()
    assert [reference() for reference in engines] == [None, None]
