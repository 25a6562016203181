"""A measurement counts only if every event was decided, in time, and the work is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.benchmarks import latency, throughput
from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.service.run_graph import raise_unless_clean

POINT = {
    "offered_hz": 1000.0, "sent_hz": 999.0, "closed": True,
    "latency_s": {"p50": 0.001, "p99": 0.004}, "ingest_latency_s": {"p50": 0.001, "p99": 0.001},
    "lost": 0, "shed": 0, "dropped": 0, "invalid": 0, "failed": 0, "narrowed": 0,
}  # fmt: skip


def test_a_rate_at_which_all_was_decided_in_time_is_sound():
    assert latency._sound(POINT, 0.005)


@pytest.mark.parametrize(
    "worse",
    [
        *({key: 1} for key in ("lost", "shed", "dropped", "invalid", "failed", "narrowed")),
        {"closed": False},
        {"sent_hz": 970.0},
        {"latency_s": {"p50": 0.001, "p99": 0.0051}},  # though it is short from ingest
    ],
    ids=str,
)
def test_a_rate_with_anything_else_is_not(worse):
    assert not latency._sound(POINT | worse, 0.005)


EVENTS = {"offered": 9, "accepted": 9, "failed": 0, "invalid": 0, "lost": 0, "shed": 0}
REPORT = {"graph": "g", "error": "", "hint": "", "closed": True, "events": EVENTS}


def test_a_clean_run_may_be_measured():
    raise_unless_clean(REPORT)


@pytest.mark.parametrize("outcome", ["failed", "invalid", "lost", "shed"])
def test_a_run_with_undecided_events_is_not_measured(outcome):
    with pytest.raises(RunError, match=f"expected every event decided, got 3 {outcome} of 9"):
        raise_unless_clean(REPORT | {"events": EVENTS | {outcome: 3}})


def test_a_run_that_does_not_close_is_not_measured():
    with pytest.raises(RunError, match="ledger that is not closed"):
        raise_unless_clean(REPORT | {"closed": False})


def test_all_engines_do_the_same_work(monkeypatch, tmp_path):
    runs = {}
    monkeypatch.setattr(throughput, "_run", lambda graph, engine: (graph, engine))
    for name, prefix in throughput._GRAPHS.items():
        whole = throughput._recorded(load_graph(name), Path("in.arrows"), tmp_path, 3)
        runs |= throughput._engines(prefix, whole, 2)
    assert len(runs) == 6
    for name in ("", "compress-"):
        graph, engine = runs[f"{name}inline"]
        assert engine == "inline"
        assert graph.sink.use == "recording"
        for count in (1, 2):
            other, engine = runs[f"{name}distributed-{count}"]
            assert engine == "distributed"
            assert other.workers.compute == count
            for part in ("source", "sink", "stages", "monitors", "graph"):
                assert getattr(other, part) == getattr(graph, part), part
