"""One scrape against an account filled by hand: every value of every family of a run."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice.kernels.histogram import BUCKETS, record
from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.journal.batch_record import pack_batch_record
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import RunTime
from sluice.pipeline.run.state import RunState, State
from sluice.pipeline.service.prometheus import RunCollector, _buckets
from sluice.pipeline.sources.base import Losses, Rejected
from sluice.pipeline.transport.batch_summary import BatchSummary

RUN = 42
SECOND = 1_000_000_000
#: Times in ns: service and wait of a batch by number of the stage, all different.
SERVICE = {stage: (stage + 1) * 1_100_000 for stage in range(6)}
WAIT = 130_000
#: Latency of the events of each batch, ns, and its events by outcome, with bits of the paths.
LATENCIES = (2_500_000, 700_000_000, 2_500_000)
COUNTS = (
    {Outcome.ACCEPTED: 7, Outcome.REJECTED: 11},
    {Outcome.ACCEPTED: 13, Outcome.PRESCALED: 2},
    {Outcome.FAILED: 3, Outcome.REJECTED: 1, Outcome.INVALID: 5},
)
PATHS = ({0: 5, 1: 2, 63: 1}, {1: 9, 2: 4, 63: 2}, {})
RUNGS = (0, 2, 2)
#: Values of the monitor: of the kind of an EMD, in units of a trigger cell's width.
EMD = (0.5, 2.0, 2.0, 4.0)
#: Time at which each state began, s after the start; the run ends after 27 s.
STATES = {RunTime.LIVE: 0, RunTime.PAUSED: 3, RunTime.BUSY: 10, RunTime.DOWN: 12}
QUARANTINE = SimpleNamespace(
    add_flagged=lambda *_: None, add_rejected=lambda *_: None,
    describe=lambda: {"rows": 43, "rows_not_kept": 47},
)  # fmt: skip
SHADOW = "tag/wafer-tagger-half@1"


@pytest.fixture
def graph(hgcal, to_toml, words_schema):
    tables = hgcal()
    tables["graph"]["window"] = 6
    for stage in tables["stage"]:
        if stage.get("name") == "tag":
            stage["shadow"] = ["wafer-tagger-half"]
    return build_graph(parse_graph(to_toml(tables), "hgcal.toml"), words_schema, ("event_id",))


def fill_meters(graph):
    """Two workers: each has processed one batch of 100 events, one more of 50 in the second."""
    names = *graph.meter_names(), graph.shadow_names()
    blocks = [MeterBlock(names[0], names[1], shadows=names[2]) for _ in range(2)]
    stages = len(names[0])
    times = np.cumsum([0, WAIT, *(SERVICE[stage] for stage in range(stages))])
    for block, events in ((blocks[0], 100), (blocks[1], 100), (blocks[1], 50)):
        block.record_stages(events, times.astype(np.int64))
    blocks[0].record_not_finite(1, 8)
    blocks[1].record_not_finite(1, 9)
    blocks[1].truncation_counter(2)[:] += np.uint64(6)
    for block, values in zip(blocks, (EMD[:1], EMD[1:]), strict=True):
        (meter,) = block.monitor_meters()
        meter.record(np.array(values, np.float32))
    meter.drop(17)
    (shadow,) = blocks[0].shadow_meters()
    outcome = np.array([1] * 9 + [2] * 4, np.uint8)
    other = np.array([1] * 6 + [2] * 3 + [1] * 2 + [2] * 2, np.uint8)
    decision = np.ones(13, np.uint64)
    shadow.compare(decision, outcome, (decision, other))
    shadow.drop(19)
    shadow.skip(2)
    shadow.fail("sprung")
    return blocks


def commit(accounting, seq):
    events = sum(COUNTS[seq].values())
    ids, counts, paths = (
        np.arange(events, dtype=np.uint64),
        np.zeros(8, np.int64),
        np.zeros(64, "i8"),
    )
    for outcome, number in COUNTS[seq].items():
        counts[outcome] = number
    for bit, number in PATHS[seq].items():
        paths[bit] = number
    batch = EventBatch({"event_id": ids, "t_ingest": np.full(events, 5, np.int64)}, events, seq)
    accounting.record_offered(batch)
    packed = pack_batch_record(seq, ids, counts.tolist(), 0, RUNGS[seq])
    accounting.record_committed(
        batch, BatchSummary(counts.tobytes(), paths.tobytes(), 5 + LATENCIES[seq], [], packed)
    )
    return batch


@pytest.fixture
def accounting(graph):
    accounting = RunAccounting(graph, RUN, QUARANTINE)
    accounting.start(0)
    for block in fill_meters(graph):
        accounting.add_meters(block)
    for state, since_s in STATES.items():
        accounting.enter_state(state, since_s * SECOND)
    accounting.stop(27 * SECOND)
    batches = [commit(accounting, seq) for seq in range(3)]
    for _ in range(4):
        accounting.record_offered(batches[0])
    accounting.record_failed(batches[0], "engine", "the sink is gone")
    accounting.record_losses(
        Losses(invalid=[Rejected("here", "no number", b"x", 23)], lost=29, shed=31,
               rejected_connections=37), "live",
    )  # fmt: skip
    accounting.record_protocol_error(41)
    for process in ("compute-0", "compute-0", "sink"):
        accounting.record_restart(process)
    accounting.enter_rung(2, 0)
    accounting.set_reference_bands({"emd": ReferenceBand(3.0, 4.0)})
    return accounting


@pytest.fixture
def scraped(accounting):
    """Value of each sample by its name and labels, as a client reads the page."""
    control = RunState()
    for state in (State.CONFIGURED, State.RUNNING):
        control.transition(state)
    control.add_hold("sink", "No space left on device")
    registry = CollectorRegistry()
    registry.register(RunCollector(lambda: (accounting, control)))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def one(name, **by_label):
    """Return samples of a metric with one label, or none."""
    ((label, values),) = by_label.items()
    return {(name, (label, value)): number for value, number in values.items()}


def of_run(graph):
    committed = {o: sum(counts.get(o, 0) for counts in COUNTS) for o in Outcome}
    failed = committed[Outcome.FAILED] + sum(COUNTS[0].values())
    return {
        **one("sluice_run_state", state=dict.fromkeys((s.value for s in State), 0) | {"PAUSED": 1}),
        ("sluice_run_paused",): 1,
        **one("sluice_alarm", cause={"sink": 1}),
        **one("sluice_events_total", outcome={
            "accepted": 20, "rejected": 12, "prescaled": 2, "shed": 31, "invalid": 5 + 23,
            "failed": failed, "lost": 29,
        }),
        **one("sluice_run_seconds_total", state={"live": 3, "paused": 7, "busy": 2, "down": 15}),
        ("sluice_inflight_batches",): 3,
        ("sluice_window_batches",): 6,
        **one("sluice_path_accepts_total", path={
            "electromagnetic": 5, "hadronic": 11, "pileup_monitor": 4,
        }),
        ("sluice_pass_through_accepts_total",): 3,
        **one("sluice_ladder_rung", stage={"encode": 2, "tag": 2}),
        **one("sluice_ladder_events_total", rung={"0": 18, "1": 0, "2": 24, "3": 0}),
        ("sluice_run_info", ("graph", "hgcal"), ("run", "42")): 1,
        **{("sluice_model_info", *sorted({"stage": stage, **model}.items())): 1
           for stage, model in graph.models().items()},
        **one("sluice_worker_restarts_total", worker={"compute-0": 2, "sink": 1}),
        **one("sluice_quarantine_rows_total", kept={"yes": 43, "no": 47}),
        ("sluice_protocol_errors_total",): 41,
        ("sluice_refused_connections_total",): 37,
        **one("sluice_source_gap_events_total", source={graph.config.source.name: 29}),
    }  # fmt: skip


def of_components(graph):
    stages = graph.meter_names()[0]
    return {
        **one("sluice_stage_events_total", stage=dict.fromkeys(stages, 250)),
        **one("sluice_stage_batches_total", stage=dict.fromkeys(stages, 3)),
        **one("sluice_not_finite_events_total", stage=dict.fromkeys(stages, 0) | {stages[1]: 17}),
        **one("sluice_truncated_events_total", stage=dict.fromkeys(stages, 0) | {stages[2]: 6}),
        **{("sluice_shadow_events_total", ("accepted_by", who), ("shadow", SHADOW)): number
           for who, number in {"both": 6, "production": 3, "shadow": 2}.items()},
        **one("sluice_shadow_dropped_total", shadow={SHADOW: 21}),
        **one("sluice_shadow_off", shadow={SHADOW: 1}),
        **one("sluice_monitor_dropped_total", monitor={"emd": 17}),
        # Each worker's mean of its latest values, averaged over the workers.
        **one("sluice_monitor_recent_mean", monitor={"emd": (0.5 + 8 / 3) / 2}),
        # Four values are too few for an alarm, wherever their mean lies.
        **one("sluice_monitor_alarm", monitor={"emd": 0}),
    }  # fmt: skip


def histograms(graph):
    """Return name, labels and values of each histogram, in the unit of its metric."""
    stages, codec = graph.meter_names()[0], graph.monitors[0].labels
    latencies = [ns / 1e9 for ns, counts in zip(LATENCIES, COUNTS, strict=True)
                 for _ in range(sum(counts.values()))]  # fmt: skip
    yield "sluice_event_latency_seconds", {"from": "ingest"}, latencies
    for number, stage in enumerate(stages):
        yield "sluice_stage_service_seconds", {"stage": stage}, [SERVICE[number] / 1e9] * 3
        # Only the first stage waits for its batch; no time is in the first bucket.
        yield "sluice_stage_wait_seconds", {"stage": stage}, [0 if number else WAIT / 1e9] * 3
    yield "sluice_emd", codec, list(EMD)


def test_every_value_of_a_scrape(scraped, graph):
    expected = of_run(graph) | of_components(graph)
    of_histograms = set()
    for name, labels, values in histograms(graph):
        key = sorted(labels.items())
        expected[f"{name}_count", *key] = len(values)
        expected[f"{name}_sum", *key] = math.fsum(values)
        of_histograms |= {sample for sample in scraped if sample[0] == f"{name}_bucket"}
    assert set(scraped) - of_histograms == set(expected)
    for sample, value in expected.items():
        # Sums in ns and means in 1e-9 are rounded once for each value.
        assert scraped[sample] == pytest.approx(value, rel=0, abs=1e-8), sample


def test_every_bucket_of_a_scrape(scraped, graph):
    """A bucket has the values below its edge; four edges are shown of each octave of ns."""
    for name, labels, values in histograms(graph):
        shown = {
            dict(sample[1:])["le"]: number for sample, number in scraped.items()
            if sample[0] == f"{name}_bucket" and labels.items() <= dict(sample[1:]).items()
        }  # fmt: skip
        assert shown.pop("+Inf") == len(values)
        edges = sorted(map(float, shown))
        assert 100 < len(edges) < 110
        for edge, above in itertools.pairwise(edges):
            assert 1.13 < above / edge < 1.26  # an octave in four equal parts
        for edge, number in shown.items():
            assert number == sum(value < float(edge) for value in values), (name, labels, edge)


def test_an_alarm_and_its_end(accounting, graph):
    block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
    accounting.add_meters(block)
    block.monitor_meters()[0].record(np.full(100, 9, np.float32))
    registry = CollectorRegistry()
    registry.register(RunCollector(lambda: (accounting, RunState())))
    value = registry.get_sample_value
    assert value("sluice_monitor_alarm", {"monitor": "emd"}) == 1
    accounting.set_reference_bands({"emd": ReferenceBand(3.0, 5.0)})
    assert value("sluice_monitor_alarm", {"monitor": "emd"}) == 0


def test_a_value_at_an_edge_is_in_the_bucket_above():
    """Upper edges are exclusive. One that is shown is 19/16 of an octave's first value."""
    edge_ns = (1 << 20) * 19 // 16
    counts = np.zeros(BUCKETS, np.uint64)
    for value_ns in (edge_ns - 1, edge_ns):
        record(counts, value_ns, 1)
    shown = dict(_buckets(counts))
    edge = f"{edge_ns * 1e-9:.6g}"
    before = max((key for key in shown if float(key) < float(edge)), key=float)
    assert (shown[before], shown[edge], shown["+Inf"]) == (0, 1, 2)
