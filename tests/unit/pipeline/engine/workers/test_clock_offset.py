"""A worker whose clock is hours off: what it sends back is in the clock of ingest."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.engine.workers import join, link, remote
from sluice.pipeline.engine.workers.link import RemoteLink
from sluice.pipeline.execution import chain as chain_module
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.graph.segments import split
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.transport.run_messages import Data
from sluice.pipeline.transport.segment_state import EMPTY

HOUR_NS = 3_600 * 10**9
OFFSETS = [-5 * HOUR_NS, 3 * HOUR_NS]
KEPT = ("event_id", "wait_ns", "service_ns", "score")
#: Time that each event had waited when its batch was sent, ns.
WAITED_NS = 40_000_000


class Clock:
    """The clocks of a host whose CLOCK_MONOTONIC is off; CLOCK_TAI is right."""

    CLOCK_TAI = time.CLOCK_TAI

    def __init__(self, offset_ns):
        self._offset_ns = offset_ns

    def monotonic_ns(self):
        return time.monotonic_ns() + self._offset_ns

    def monotonic(self):
        return self.monotonic_ns() * 1e-9

    def clock_gettime_ns(self, clock):
        return time.clock_gettime_ns(clock)

    perf_counter = staticmethod(time.perf_counter)


@pytest.fixture
def on_worker(monkeypatch):
    """Let all modules of a worker have the clock of a host that is off."""

    def shift(offset_ns):
        for module in (join, link, chain_module):
            monkeypatch.setattr(module, "time", Clock(offset_ns))

    return shift


@pytest.fixture
def tables(hgcal):
    tables = hgcal()
    tables["monitor"] = []
    tables["graph"]["batch_events"] = 100
    for stage in tables["stage"]:
        stage.pop("ladder", None)
    return tables


@pytest.fixture
def chains(tables, to_toml, words_schema):
    """Open the chain of each segment."""
    opened = []

    def make(segments):
        if segments:
            tables["workers"] = {"chain": segments}
        graph = build_graph(parse_graph(to_toml(tables), "clock.toml"), words_schema, KEPT)
        for segment in split(graph):
            chain = Chain(segment, MeterBlock(*segment.meter_names()), "all")
            chain.open()
            opened.append(chain)
        return graph, list(zip(split(graph), opened, strict=True))

    yield make
    for chain in opened:
        chain.close()


def sent(seq, events):
    return Data(seq, events, None, 0, 0, 0, time.monotonic_ns(), False)


def batch_of(wafers, graph):
    arrived = np.full(100, time.monotonic_ns() - WAITED_NS, np.int64)
    columns = wafers.slice(0, 100).with_columns(t_ingest=arrived).select(graph.inputs.names).columns
    return EventBatch(columns, 100, 3)


@pytest.mark.parametrize("offset_ns", OFFSETS)
def test_a_decision_is_in_the_clock_of_ingest(offset_ns, on_worker, chains, wafers):
    graph, ((_, chain),) = chains(None)
    batch, began_ns = batch_of(wafers, graph), time.monotonic_ns()
    on_worker(offset_ns)
    worker = RemoteLink(SimpleNamespace(), None, offset_ns, 10.0)
    mine, ready_ns, state = worker.localise(batch, sent(3, 100), EMPTY)
    kept, summary = worker.globalise(*chain.run(mine, ready_ns, state=state))
    check_times(kept, summary, began_ns)


@pytest.mark.parametrize("offsets", [(OFFSETS[0], OFFSETS[1]), (OFFSETS[1], 0), (0, OFFSETS[0])])
def test_segments_on_hosts_with_other_clocks_agree(offsets, on_worker, chains, wafers):
    graph, (first, second) = chains(
        [{"stages": ["unpack", "normalise", "encode"]}, {"stages": ["pack", "tag", "menu"]}]
    )
    batch, began_ns, state = batch_of(wafers, graph), time.monotonic_ns(), EMPTY
    on_worker(offsets[0])
    worker = RemoteLink(SimpleNamespace(), None, offsets[0], 10.0)
    mine, ready_ns, state = worker.localise(batch, sent(3, 100), state)
    passed, state = worker.globalise(*first[1].run_segment(mine, ready_ns, 0, 0, state))
    assert began_ns <= state.started_ns <= time.monotonic_ns()
    if "t_ingest" in passed:
        np.testing.assert_array_equal(passed["t_ingest"], batch["t_ingest"])
    on_worker(offsets[1])
    other = RemoteLink(SimpleNamespace(), None, offsets[1], 10.0)
    copies = {name: np.array(passed[name]) for name in passed.columns}
    mine, ready_ns, state = other.localise(EventBatch(copies, 100, 3), sent(3, 100), state)
    kept, summary = other.globalise(*second[1].run(mine, ready_ns, state=state))
    check_times(kept, summary, began_ns)


def check_times(kept, summary, began_ns):
    """Decided after the start and before now; no time is longer than what has passed since."""
    took_ns = time.monotonic_ns() - began_ns
    assert began_ns <= summary.t_decided <= began_ns + took_ns
    assert kept.events == 100
    waited, service = kept["wait_ns"].astype(np.int64), kept["service_ns"].astype(np.int64)
    assert (waited >= WAITED_NS).all()
    assert (service > 0).all()
    assert (waited + service <= WAITED_NS + took_ns + 1_000_000).all()  # until the batch was made


@pytest.mark.parametrize("worker_ns", OFFSETS)
@pytest.mark.parametrize("ingest_ns", [0, 7 * HOUR_NS])
def test_the_offset_is_the_worker_s_clock_minus_that_of_ingest(worker_ns, ingest_ns, monkeypatch):
    """Both are compared with CLOCK_TAI, which the hosts have in common."""
    monkeypatch.setattr(join, "time", Clock(ingest_ns))
    reply = SimpleNamespace(tai_offset_ns=join.tai_offset_ns(), timeout_s=10.0)
    found = []

    def link_of(spec, keys, offset_ns, timeout_s):
        found.append(offset_ns)
        raise InterruptedError

    monkeypatch.setattr(join, "time", Clock(worker_ns))
    monkeypatch.setattr(remote, "RemoteLink", link_of)
    monkeypatch.setattr(remote, "spec_of", lambda *_: SimpleNamespace(run=1, session=1))
    with pytest.raises(InterruptedError):
        remote._work(SimpleNamespace(), "w", "tcp://h:1", None, reply, lambda: False)
    # Four readings of clocks, between which a busy machine may do other things.
    np.testing.assert_allclose(found, worker_ns - ingest_ns, rtol=0, atol=10**9)


def test_a_worker_off_on_the_common_clock_is_refused():
    reply = SimpleNamespace(sent_ns=time.clock_gettime_ns(time.CLOCK_TAI) - HOUR_NS)
    with pytest.raises(RunError, match=r"this host is \+3600\.\d s from ingest on CLOCK_TAI"):
        join.JoinReply.check_clock(reply)
