"""A chain cut into segments decides as the whole does, and its batches go from one to the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.core.errors import ConfigError, ProtocolError
from sluice.pipeline.engine.distributed.in_flight import InFlight
from sluice.pipeline.engine.distributed.in_flight_batch import InFlightBatch
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.graph.segments import edge_schemas, split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.totals import stage_totals
from sluice.pipeline.transport.segment_state import (
    EMPTY,
    SegmentState,
    pack_segment_state,
    unpack_segment_state,
)

KEPT = (
    "event_id", "words", "packed", "latent_q", "sum_q", "score", "outcome", "decision", "prescale",
)  # fmt: skip
STAGES = ("unpack", "normalise", "encode", "pack", "tag", "menu")
CUTS = [(3,), (1, 4), (5,), (1, 2, 3, 4, 5)]


@pytest.fixture
def make(hgcal, to_toml, words_schema, parts):
    """Build the hgcal graph, cut before the stages of these numbers, perhaps with a trap."""

    def build(cuts=(), ids=(), at=0):
        tables = hgcal()
        tables["graph"]["batch_events"] = 500
        names = list(STAGES)
        if ids:
            tables["stage"].insert(at, {"use": "test.trap", "name": "trap", "ids": list(ids)})
            names.insert(at, "trap")
        bounds = [0, *cuts, len(names)]
        if cuts:
            pairs = pairwise(bounds)
            tables["workers"] = {"chain": [{"stages": names[a:b]} for a, b in pairs]}
        return build_graph(parse_graph(to_toml(tables), "my.toml"), words_schema, KEPT)

    return build


def process(graph, batch, keep="all", rung=0):
    """Run a batch through all segments; return what is kept, the summary and the meters."""
    state, batch = EMPTY, batch.select(graph.inputs.names)
    blocks = []
    for part in split(graph):
        blocks.append(MeterBlock(*part.meter_names()))
        chain = Chain(part, blocks[-1], keep)
        chain.open()
        try:
            if not part.has_next_segment:
                kept, summary = chain.run(batch, 0, rung, 0, state)
                return kept.take(np.arange(kept.events)), summary, blocks
            passed, state = chain.run_segment(batch, 0, rung, 0, state)
            passed.check(part.outputs, "edge")
            batch = passed.take(np.arange(passed.events))
            state = unpack_segment_state(pack_segment_state(state))
        finally:
            chain.close()
    raise AssertionError("no last segment")


def assert_same(one, other):
    (kept, summary, _), (expected, whole, _) = one, other
    assert kept.events == expected.events
    for name in KEPT:
        if name == "score":  # the last bit depends on how many events are inferred together
            np.testing.assert_allclose(kept[name], expected[name], atol=1e-6)
        else:
            np.testing.assert_array_equal(kept[name], expected[name], err_msg=name)
    assert (summary.counts, summary.paths) == (whole.counts, whole.paths)
    assert summary.batch_record == whole.batch_record
    rows = [sorted((f.outcome, row) for f in s.flags for row in f.rows) for s in (summary, whole)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("keep", ["all", "accepted"])
def test_segments_decide_as_the_whole_chain_does(make, wafers, cuts, keep):
    found = process(make(cuts), wafers, keep)
    assert_same(found, process(make(), wafers, keep))
    totals = stage_totals(found[2])
    assert {name: total.events - 500 for name, total in totals.items()} == dict.fromkeys(STAGES, 0)


@pytest.mark.parametrize(("cuts", "at"), [((3,), 0), ((3,), 4), ((1, 4), 2), ((6,), 5)])
def test_events_that_break_a_stage_fail_alone_in_any_segment(make, wafers, cuts, at):
    guilty = [3, 77, 499]
    ids = wafers["event_id"][guilty].tolist()
    found = process(make(cuts, ids, at), wafers)
    assert_same(found, process(make((), ids, at), wafers))
    assert np.flatnonzero(found[0]["outcome"] == Outcome.FAILED).tolist() == guilty


def test_what_travels_is_what_is_needed_behind(make):
    graph = make((1, 4))
    source, charges, latents, kept = edge_schemas(graph)
    assert source == graph.inputs
    assert kept == graph.outputs
    common = {"event_id", "outcome", "decision", "words"}  # the sink wants the words too
    assert common <= set(charges.names) & set(latents.names)
    assert "packed" in latents
    assert "packed" not in charges


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([["unpack"], ["menu"]], "all stages, in the graph's order"),
        ([list(STAGES), []], "some in each segment"),
        ([[*STAGES[3:]], [*STAGES[:3]]], "all stages, in the graph's order"),
        ([[*STAGES], ["menu"]], "all stages, in the graph's order"),
    ],
)
def test_a_chain_that_is_not_the_graph_s_is_refused(hgcal, to_toml, chain, words):
    tables = hgcal()
    tables["workers"] = {"chain": [{"stages": stages} for stages in chain]}
    with pytest.raises(ConfigError, match=words):
        parse_graph(to_toml(tables), "my.toml")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"compute": 2}, "compute in each chain"),
        ({"chain": [{"stages": STAGES, "compute": 0}]}, "at least 1 worker"),
    ],
)
def test_a_chain_whose_workers_are_unclear_is_refused(hgcal, to_toml, more, words):
    tables = hgcal()
    tables["workers"] = {"chain": [{"stages": STAGES}], **more}
    with pytest.raises(ConfigError, match=words):
        parse_graph(to_toml(tables), "my.toml")


def test_bytes_that_are_no_segment_state_are_refused():
    for wrong in (b"", b"\xc1", pack_segment_state(SegmentState())[:-1], b"\x93\x01\x02\x03"):
        with pytest.raises(ProtocolError):
            unpack_segment_state(wrong)


@pytest.fixture
def in_flight():
    """A window of four batches over two segments: a and b work on the first, c on the second."""
    made = InFlight(4, 10, segments=2)
    for worker, segment in (("a", 0), ("b", 0), ("c", 1)):
        made.assign_segment(worker, segment)
        made.add_credit(worker, 1)
    return made


def add(in_flight, seq):
    in_flight.add(InFlightBatch(batch=EventBatch({}, 10, seq)))


def test_a_batch_goes_from_segment_to_segment_with_what_was_found(in_flight):
    add(in_flight, 0)
    assert in_flight.next_worker() in ("a", "b")
    in_flight.assign(0, "a", 5)
    assert in_flight.next_for(1) is None
    assert in_flight.to_next_segment("a", 0, [b"found"], 100) == []
    assert in_flight.next_for(1) == 0
    assert in_flight.next_for(1) is None
    assert in_flight.next_worker(1) == "c"
    in_flight.assign(0, "c", in_flight[0].slot)
    assert (in_flight[0].segment_payload, in_flight[0].service_ns, in_flight[0].slot) == (
        [b"found"],
        100,
        5,
    )
    assert in_flight.next_worker(1) is None
    assert in_flight.complete(0)[1] == []  # c may be writing still
    assert in_flight.add_credit("c", 1, 0) == (None, [])  # the message came twice
    assert in_flight.add_credit("c", 2, 0) == (None, [5])
    assert in_flight.idle


@pytest.mark.parametrize("exited", ["a", "c"])
def test_a_batch_that_loses_its_worker_begins_anew(in_flight, exited):
    add(in_flight, 0)
    in_flight.assign(0, "a", 5)
    if exited == "c":
        in_flight.to_next_segment("a", 0, [b"found"], 100)
        in_flight.assign(in_flight.next_for(1), "c", 5)
    assert in_flight.reclaim(exited) == []  # the batch has not landed: its slots stay taken
    assert in_flight.next_requeued() == 0
    assert (in_flight[0].segment, in_flight[0].slot, in_flight[0].segment_payload) == (0, None, ())
    in_flight.assign(0, "b", 6)
    assert in_flight.to_next_segment(exited, 0, [b"late"], 100) == []
    assert in_flight.next_for(1) is None
    in_flight.to_next_segment("b", 0, [b"new"], 100)
    assert in_flight.next_for(1) == 0
    assert in_flight[0].segment_payload == [b"new"]
    assert sorted(in_flight.complete(0)[1]) == [5, 6]


def test_a_result_of_a_batch_that_was_committed_meanwhile_gives_back_slot_and_credit(in_flight):
    """The sink may have had the result of an earlier assignment, before it was restarted."""
    add(in_flight, 0)
    in_flight[0].token = 7
    in_flight.assign(0, "a", 5)
    assert in_flight.complete(0)[1] == []
    assert in_flight.is_assigned("a", 0, 7)
    assert not in_flight.is_assigned("a", 0, 8)
    assert in_flight.to_next_segment("a", 0, [b"found"], 100) == [5]
    assert not in_flight.is_assigned("a", 0, 7)
    assert in_flight.idle
    assert in_flight.next_for(1) is None


def test_the_credit_of_a_worker_that_could_not_be_reached_holds_again_once_it_sends(in_flight):
    add(in_flight, 0)
    in_flight.on_send_failed(0, "a")
    assert [in_flight.next_worker(), in_flight.next_requeued()] == ["b", 0]
    in_flight.on_send_failed(0, "b")
    assert in_flight.next_worker() is None
    in_flight.add_credit("a", 1)  # what it says once a second: nothing new
    assert in_flight.next_worker() == "a"
    in_flight.assign(in_flight.next_requeued(), "a", None)
    in_flight.add_credit("a", 1)
    assert in_flight.next_worker() is None


def test_a_recall_takes_back_what_waits_between_segments(in_flight):
    for seq in (0, 1):
        add(in_flight, seq)
    in_flight.assign(0, "a", 5)
    in_flight.assign(1, "b", 6)
    in_flight.to_next_segment("a", 0, [b"found"], 100)
    in_flight.to_next_segment("b", 1, [b"found"], 100)
    assert in_flight.idle
    in_flight.requeue_all()
    assert in_flight.next_for(1) is None
    assert [in_flight.next_requeued(), in_flight.next_requeued(), in_flight.next_requeued()] == [
        0,
        1,
        None,
    ]
