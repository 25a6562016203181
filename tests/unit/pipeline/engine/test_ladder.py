"""The ladder: down under backlog, up after rest, no flapping; and what each rung decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.config.graph_file import load_graph, parse_graph
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.engine.ladder import LadderPolicy
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.run.ladder_time import LadderTime
from sluice.pipeline.stages.infer import Infer


def late(ladder, times, now_s, gap_s=0.01):
    for _ in range(times):
        now_s += gap_s
        ladder.on_batch(late=True, above_s=0.0, now_s=now_s)
        ladder.on_tick(now_s)
    return now_s


def test_down_after_eight_late_batches_in_a_row_and_not_before():
    ladder = LadderPolicy(3)
    now = late(ladder, 7, 100.0)
    assert ladder.rung == 0
    ladder.on_batch(late=False, above_s=0.0, now_s=now)
    now = late(ladder, 7, now)
    assert ladder.rung == 0
    now = late(ladder, 1, now)
    assert ladder.rung == 1
    now = late(ladder, 8, now)
    assert ladder.rung == 2
    late(ladder, 100, now)
    assert ladder.rung == 2  # there is none below


def test_up_after_a_second_of_rest_one_rung_at_a_time():
    ladder = LadderPolicy(3)
    now = late(ladder, 16, 100.0)
    ladder.on_tick(now + 0.9)
    assert ladder.rung == 2
    ladder.on_tick(now + 1.1)
    assert ladder.rung == 1
    ladder.on_tick(now + 1.2)
    assert ladder.rung == 1
    ladder.on_tick(now + 2.2)
    assert ladder.rung == 0


def test_no_step_up_while_the_rung_above_would_have_no_rest():
    ladder = LadderPolicy(2)
    now = late(ladder, 8, 100.0)
    for _ in range(500):  # 80 % of the workers' time on the rung above
        now += 0.01
        ladder.on_batch(late=False, above_s=0.008, now_s=now)
        ladder.on_tick(now)
    assert ladder.rung == 1
    for _ in range(250):
        now += 0.01
        ladder.on_batch(late=False, above_s=0.005, now_s=now)
        ladder.on_tick(now)
    assert ladder.rung == 0


def quiet(ladder, seconds, share, now_s):
    """Let batches come in time that need a share of the workers' time on the rung above."""
    for _ in range(round(100 * seconds)):
        now_s += 0.01
        ladder.on_batch(late=False, above_s=0.01 * share, now_s=now_s)
        ladder.on_tick(now_s)
    return now_s


def test_what_the_rung_above_needs_is_not_believed_for_ever():
    ladder = LadderPolicy(2)
    now = late(ladder, 8, 100.0)
    now = quiet(ladder, 7.9, 1.3, now)
    assert ladder.rung == 1
    now = quiet(ladder, 0.3, 1.3, now)
    assert ladder.rung == 0
    now = late(ladder, 8, now)  # it was right: the next try comes later
    assert ladder.rung == 1
    now = quiet(ladder, 15.8, 1.3, now)
    assert ladder.rung == 1
    quiet(ladder, 0.5, 1.3, now)
    assert ladder.rung == 0


def test_a_rung_that_is_much_too_dear_is_not_tried():
    ladder = LadderPolicy(2)
    quiet(ladder, 120, 1.5, late(ladder, 8, 100.0))
    assert ladder.rung == 1


def test_one_late_batch_restarts_the_wait_for_the_rung_above():
    ladder = LadderPolicy(2)
    now = quiet(ladder, 7.9, 1.3, late(ladder, 8, 100.0))
    now = late(ladder, 1, now)
    quiet(ladder, 7.9, 1.3, now)
    assert ladder.rung == 1


def test_a_step_up_that_fails_makes_the_next_wait_longer():
    ladder, now, ups = LadderPolicy(2), 100.0, []
    for _ in range(6):
        now = late(ladder, 8, now)
        since = now
        while ladder.rung:
            now += 0.01
            ladder.on_tick(now)
        ups.append(now - since)
    assert ups == sorted(ups)
    assert ups[-1] > 8 * ups[0]
    assert ups[-1] < 65


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.1), st.floats(0, 2)), max_size=300),
       st.integers(1, 5))  # fmt: skip
def test_hysteresis_whatever_comes(story, rungs):
    """One rung a step: down needs eight late batches since the last, up a second's rest."""
    ladder, now, late_since, quiet = LadderPolicy(rungs), 0.0, 0, 0.0
    for is_late, above_s, gap_s in story:
        now += gap_s
        before = ladder.rung
        ladder.on_tick(now)
        assert ladder.rung in (before, before - 1)
        if ladder.rung < before:
            assert now - quiet >= 1.0
            quiet, late_since = now, 0
        before = ladder.rung
        ladder.on_batch(late=is_late, above_s=above_s, now_s=now)
        late_since = late_since + 1 if is_late else 0
        quiet = now if is_late else quiet
        assert ladder.rung in (before, before + 1)
        if ladder.rung > before:
            assert late_since >= 8
            late_since = 0
        assert 0 <= ladder.rung < rungs


def test_the_ladder_time_counts_every_second_for_some_rung(monkeypatch):
    now = 10**9
    monkeypatch.setattr("time.monotonic_ns", lambda: now)
    ladder_time = LadderTime(3)
    ladder_time.enter(1, now := now + 10**9)
    ladder_time.enter(2, now := now + 2 * 10**9)
    now += 10**9
    assert (ladder_time.rung, ladder_time.events) == (2, [0, 0, 0])
    assert ladder_time.seconds(4 * 10**9) == [1.0, 2.0, 1.0]


GRAPH = """
[graph]
name = "rungs"
batch_events = 64
[source]
use = "live"
columns = { words = "uint32[12]" }
[[stage]]
use = "wafer.unpack"
[[stage]]
use = "wafer.normalise"
[[stage]]
name = "encode"
use = "infer"
model = "wafer-encoder-9b"
ladder = ["wafer-encoder-7b"]
[[stage]]
use = "wafer.pack"
[[stage]]
name = "tag"
use = "infer"
model = "wafer-tagger"
ladder = ["wafer-tagger", "no-model"]
[[stage]]
use = "menu"
pass_through = 0.2
[[stage.path]]
name = "tagged"
where = "score.electromagnetic >= 0 and charge_sum >= 0"
[[stage.path]]
name = "charge"
where = "charge_sum > 500"
[sink]
use = "recording"
keep = "all"
columns = ["event_id", "latent", "score", "decision", "outcome", "rung"]
"""


@pytest.fixture(scope="module")
def chain():
    config = parse_graph(GRAPH, "here")
    source = build("source", config.source, "here")
    graph = build_graph(config, source.schema, build("sink", config.sink, "here").columns)
    assert graph.rungs == 3
    chain = Chain(graph, MeterBlock(*graph.meter_names()), "all")
    chain.open()
    yield chain
    chain.close()


@pytest.fixture(scope="module")
def events():
    words = np.random.default_rng(3).integers(0, 2**32, (64, 12), dtype=np.uint32)
    ids = np.arange(64, dtype=np.uint64)
    return EventBatch({"words": words, "event_id": ids, "t_event": np.zeros(64, np.int64)}, 64)


def columns(chain, events, rung):
    kept, _ = chain.run(events, 0, rung=rung)
    return {name: np.array(kept[name]) for name in ("latent", "score", "decision", "rung")}


def test_each_rung_decides_with_its_models_and_says_so(chain, events):
    by_rung = [columns(chain, events, rung) for rung in range(3)]
    for rung, found in enumerate(by_rung):
        assert (found["rung"] == rung).all()
    full, narrow, cut = (found["latent"] for found in by_rung)
    assert not np.array_equal(full, narrow)
    np.testing.assert_array_equal(narrow, cut)  # its ladder ends there
    assert by_rung[1]["score"].any()
    assert not by_rung[2]["score"].any()
    again = columns(chain, events, 0)
    for name, array in by_rung[0].items():
        np.testing.assert_array_equal(again[name], array)


def test_paths_that_need_what_is_cut_do_not_fire_and_pass_through_does(chain, events):
    full, cut = columns(chain, events, 0)["decision"], columns(chain, events, 2)["decision"]
    tagged, charge, passed = np.uint64(1), np.uint64(2), np.uint64(1 << 63)
    assert (full & tagged).any()
    assert not (cut & tagged).any()
    np.testing.assert_array_equal(full & charge, cut & charge)
    assert (cut & charge).any()
    np.testing.assert_array_equal(full & passed, cut & passed)
    assert (cut & passed).any()


def test_what_batches_take_is_measured_on_each_rung(chain):
    assert [[size for size, _ in of_rung] for of_rung in chain.service_s] == [[1, 8, 64]] * 3


@pytest.mark.parametrize(
    ("ladder", "says"),
    [
        (("no-model", "wafer-tagger"), "once and last"),
        (("wafer-tagger", "wafer-encoder-9b"), "expected those of wafer-tagger"),
    ],
)
def test_ladders_that_make_no_sense_are_refused(ladder, says):
    with pytest.raises(ConfigError, match=says):
        Infer("tag", Infer.Options(model="wafer-tagger", ladder=ladder))


def test_a_graph_without_ladders_has_one_rung():
    config = load_graph("compress")
    source = build("source", config.source, "here")
    graph = build_graph(config, source.schema, build("sink", config.sink, "here").columns)
    assert graph.rungs == 1
