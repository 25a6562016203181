"""Under load, workers ask for several batches and the sink reports several; none is lost."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.engine.distributed.dispatcher import Dispatcher
from sluice.pipeline.engine.workers.process_spec import max_unreported
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions
from sluice.pipeline.transport.batch_summary import (
    BatchSummary,
    join_summaries,
    merge_acks,
    pack_summary,
)

SUMMARIES = st.lists(st.builds(BatchSummary, st.binary(), st.binary(), st.integers(0, 2**63)))


@given(st.lists(SUMMARIES, min_size=1, max_size=5))
def test_joined_payloads_are_the_payload_of_all(groups):
    acks = [(len(group), join_summaries(list(map(pack_summary, group)))) for group in groups]
    ((batches, joined),) = merge_acks(acks)
    assert joined == join_summaries([pack_summary(one) for group in groups for one in group])
    assert len(msgspec.msgpack.decode(joined)) == batches == sum(map(len, groups))


@given(st.integers(0, 1 << 22))
def test_what_a_worker_owes_is_bounded_in_batches_and_events(events):
    owed = max_unreported(events)
    assert 1 <= owed <= 4
    assert owed == 1 or owed * events <= 16_384


@pytest.mark.parametrize("size", [50, 3_000])
def test_a_replay_asks_for_several_at_once(wafers, monkeypatch, size):
    asked, reported = [], []
    credit, commit = Dispatcher.on_credit, Dispatcher.commit

    def noted_credit(self, name, message):
        asked.append((name, message.batches, message.processed_events))
        credit(self, name, message)

    def noted_commit(self, first, summaries):
        reported.append((first, len(summaries)))
        return commit(self, first, summaries)

    monkeypatch.setattr(Dispatcher, "on_credit", noted_credit)
    monkeypatch.setattr(Dispatcher, "commit", noted_commit)
    config = load_graph("compress")
    config = replace(
        config, source=ComponentConfig("recording", "wafers", {"path": str(wafers)}),
        sink=ComponentConfig("null", "null", {}), graph=replace(config.graph, batch_events=size),
    )  # fmt: skip
    report = run_graph(config, RunOptions(run=UNNUMBERED, engine="distributed"))
    assert report["closed"]
    batches = -(-20_000 // size)
    in_total = {}  # a worker says how many batches it has asked for since its start
    processed = []
    for name, total, events in asked:
        if events:
            processed.append(total - in_total[name])
        in_total[name] = total
    # What the worker owes when the run ends it need not say.
    assert batches - 4 < sum(processed) <= batches
    assert max(processed) <= 4
    assert len(processed) < batches
    counts = [n for _, n in reported]
    assert [first for first, _ in reported] == [sum(counts[:k]) for k in range(len(counts))]
    assert sum(counts) == batches
