"""One bad event fails alone: the others come out as if it had not been there."""

from __future__ import annotations

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.batch import EventBatch, Outcome, concatenate
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.core.schema import OUTCOME
from sluice.pipeline.execution.chain import Chain
from sluice.pipeline.execution.isolation import MAX_ISOLATED_EVENTS
from sluice.pipeline.graph.graph import build_graph
from sluice.pipeline.inference.repository import find_model
from sluice.pipeline.metrics.meters import MeterBlock
from sluice.pipeline.metrics.totals import monitor_totals, stage_totals
from sluice.pipeline.testing import split

KEPT = ("event_id", "words", "packed", "latent_q", "sum_q", "score", "outcome", "decision")
#: Bit-identical whatever the batch's size; the tagger's softmax may differ in the last bit.
EXACT = tuple(name for name in KEPT if name != "score")


@pytest.fixture
def open_chain(hgcal, to_toml, words_schema, parts):
    """Open a chain of the hgcal graph with more stages; closed at the end."""
    chains = []

    def make(*, source=words_schema, kept=KEPT, keep="all", at=0, stage=None, emd=0.0):
        tables = hgcal()
        tables["graph"]["batch_events"] = 500
        tables["monitor"][0]["sample"] = emd
        if stage:
            tables["stage"].insert(at, stage)
        graph = build_graph(parse_graph(to_toml(tables), "my.toml"), source, kept)
        block = MeterBlock(*graph.meter_names())
        chain = Chain(graph, block, keep)
        chain.open()
        chains.append(chain)
        return chain, graph, block

    yield make
    for chain in chains:
        chain.close()


def run(chain, graph, batch):
    """Return copies of the kept columns, the counts by outcome, and the flags."""
    kept, summary = chain.run(batch.select(graph.inputs.names), 0)
    counts = np.frombuffer(summary.counts, np.int64)
    assert counts.sum() == batch.events
    copies = {name: array.copy() for name, array in kept.columns.items()}
    return EventBatch(copies, kept.events, kept.seq), counts, summary


@pytest.fixture
def clean(open_chain, wafers):
    chain, graph, _ = open_chain()
    return run(chain, graph, wafers)


def assert_rest_unchanged(got, clean, guilty):
    healthy = np.setdiff1d(np.arange(500), guilty)
    assert got.events == clean.events
    for name in EXACT:
        np.testing.assert_array_equal(got[name][healthy], clean[name][healthy], err_msg=name)
    np.testing.assert_allclose(got["score"][healthy], clean["score"][healthy], atol=1e-6)


def test_clean_run(clean, wafers):
    kept, counts, summary = clean
    assert counts[Outcome.OPEN] == 0
    assert counts[Outcome.FAILED] == counts[Outcome.INVALID] == 0
    assert counts[Outcome.ACCEPTED] > 0
    assert np.bincount(kept["outcome"], minlength=8).tolist() == counts.tolist()
    paths = np.frombuffer(summary.paths, np.int64)
    bits = (kept["decision"][:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    bits[:, 63] &= ~bits[:, :63].any(axis=1)
    assert paths.tolist() == bits.sum(0).tolist()
    np.testing.assert_array_equal(kept["words"], wafers["words"])


@pytest.mark.parametrize("at", [0, 3, 6])
@pytest.mark.parametrize("guilty", [[0], [499], [250], [3, 4, 77, 400]])
def test_events_that_break_a_stage_fail_alone(open_chain, wafers, clean, at, guilty):
    ids = wafers["event_id"][guilty].tolist()
    stage = {"use": "test.trap", "name": "trap", "ids": ids}
    chain, graph, _ = open_chain(stage=stage, at=at)
    got, counts, summary = run(chain, graph, wafers)
    assert np.flatnonzero(got["outcome"] == Outcome.FAILED).tolist() == guilty
    assert counts[Outcome.FAILED] == len(guilty)
    assert (got["decision"][guilty] == 0).all()
    assert sorted(row for flag in summary.flags for row in flag.rows) == guilty
    assert {flag.stage for flag in summary.flags} == {"trap"}
    assert {flag.outcome for flag in summary.flags} == {Outcome.FAILED}
    assert all("ArithmeticError: sprung" in flag.reason for flag in summary.flags)
    assert_rest_unchanged(got, clean[0], guilty)
    _, counts_again, _ = run(chain, graph, wafers)  # nothing of it stays
    assert counts_again.tolist() == counts.tolist()


def test_a_stage_that_always_raises_fails_the_whole_batch(open_chain, wafers):
    chain, graph, _ = open_chain(stage={"use": "test.trap", "name": "trap"}, at=2)
    got, counts, summary = run(chain, graph, wafers)
    assert counts[Outcome.FAILED] == 500
    assert got.events == 500
    assert (got["outcome"] == Outcome.FAILED).all()
    assert sorted(row for flag in summary.flags for row in flag.rows) == list(range(500))
    alone = [flag for flag in summary.flags if flag.stage == "trap"]
    assert [len(flag.rows) for flag in alone] == [1] * MAX_ISOLATED_EVENTS
    others = {flag.stage: flag.reason for flag in summary.flags if flag.stage != "trap"}
    assert set(others) == {"chain"}
    assert "events of the batch broke a stage" in others["chain"]


def test_failed_events_are_not_kept_when_only_accepted_ones_are(open_chain, wafers, clean):
    stage = {"use": "test.trap", "name": "trap", "ids": [1, 2]}
    chain, graph, _ = open_chain(stage=stage, keep="accepted")
    got, counts, _ = run(chain, graph, wafers)
    assert got.events == counts[Outcome.ACCEPTED]
    assert (got["outcome"] == Outcome.ACCEPTED).all()
    wanted = clean[0]["event_id"][clean[0]["outcome"] == Outcome.ACCEPTED]
    assert got["event_id"].tolist() == [i for i in wanted.tolist() if i not in (1, 2)]


@pytest.mark.parametrize("how", ["dtype", "shape", "length", "nothing", "fewer"])
def test_a_stage_whose_output_is_not_what_it_provides_fails_its_events(open_chain, wafers, how):
    stage = {"use": "test.wrong-output", "name": "wrong-output", "how": how}
    chain, graph, _ = open_chain(stage=stage, kept=("event_id", "extra", "outcome"))
    got, counts, summary = run(chain, graph, wafers)
    assert counts[Outcome.FAILED] == 500
    assert (got["outcome"] == Outcome.FAILED).all()
    assert got["extra"].dtype == np.float32
    assert any(
        "wrong-output" in flag.stage or "wrong-output" in flag.reason for flag in summary.flags
    )
    assert {flag.stage for flag in summary.flags} == {"wrong-output", "chain"}


def charges(wafers, charge_schema, open_chain):
    """Return wafers as charges, by the chain's own unpacking."""
    chain, graph, _ = open_chain(kept=("event_id", "charge"))
    kept, _, _ = run(chain, graph, wafers)
    return wafers.with_columns(charge=kept["charge"])


def test_charges_that_are_none_are_invalid_and_the_rest_unchanged(
    open_chain, wafers, charge_schema
):
    batch = charges(wafers, charge_schema, open_chain)
    kept = tuple(name for name in KEPT if name != "words")
    chain, graph, _ = open_chain(source=charge_schema, kept=kept)
    clean, _, _ = run(chain, graph, batch)
    bad = batch["charge"].copy()
    bad[5, 7] = np.nan
    bad[6, :] = np.inf
    bad[7, 47] = -np.inf
    bad[8, 0] = -1
    bad[9, 0] = -np.float32(1e-38)
    bad[10] = 0
    got, counts, summary = run(chain, graph, batch.with_columns(charge=bad))
    assert np.flatnonzero(got["outcome"] == Outcome.INVALID).tolist() == [5, 6, 7, 8, 9]
    assert counts[Outcome.INVALID] == 5
    assert (got["decision"][5:10] == 0).all()
    reasons = {row: flag.reason for flag in summary.flags for row in flag.rows}
    assert {row for row, reason in reasons.items() if "not finite" in reason} == {5, 6, 7}
    assert {row for row, reason in reasons.items() if "negative" in reason} == {8, 9}
    assert {flag.stage for flag in summary.flags} == {"normalise"}
    healthy = np.setdiff1d(np.arange(500), [5, 6, 7, 8, 9, 10])
    for name in kept:
        np.testing.assert_array_equal(got[name][healthy], clean[name][healthy], err_msg=name)


def test_flags_survive_the_search_for_a_broken_event(open_chain, wafers, charge_schema):
    batch = charges(wafers, charge_schema, open_chain)
    bad = batch["charge"].copy()
    bad[100, 0] = np.nan
    bad[400, 0] = -1
    stage = {"use": "test.trap", "name": "trap", "ids": [301]}
    kept = tuple(name for name in KEPT if name != "words")
    chain, graph, _ = open_chain(source=charge_schema, kept=kept, stage=stage, at=6)
    _, counts, summary = run(chain, graph, batch.with_columns(charge=bad))
    flagged = {row: (flag.stage, flag.outcome) for flag in summary.flags for row in flag.rows}
    assert flagged == {100: ("normalise", Outcome.INVALID), 400: ("normalise", Outcome.INVALID),
                       300: ("trap", Outcome.FAILED)}  # fmt: skip
    assert counts[Outcome.INVALID] == 2
    assert counts[Outcome.FAILED] == 1


def test_wafers_without_charge_are_sound(open_chain, wafers, charge_schema):
    kept = tuple(name for name in KEPT if name != "words")
    chain, graph, block = open_chain(source=charge_schema, kept=kept, emd=1.0)
    blank = wafers.with_columns(charge=np.zeros((500, 48), np.float32))
    got, counts, summary = run(chain, graph, blank)
    assert counts[Outcome.INVALID] == counts[Outcome.FAILED] == 0
    assert (got["sum_q"] == 0).all()
    assert np.isfinite(got["score"]).all()
    assert summary.flags == []
    chain._monitor_runner.close()
    total = monitor_totals([block])["emd"]
    assert (total.n, total.dropped) == (0, 0)  # without charge there is no distance


@pytest.mark.parametrize("stage", [None, {"use": "test.trap", "name": "trap", "ids": [9]}])
def test_zero_event_batches(open_chain, wafers, stage):
    chain, graph, _ = open_chain(stage=stage)
    empty = wafers.slice(0, 0)
    got, counts, summary = run(chain, graph, empty)
    assert got.events == 0
    assert counts.sum() == 0
    assert summary.flags == []
    assert run(chain, graph, wafers)[0].events == 500
    assert run(chain, graph, empty)[0].events == 0


def test_decisions_do_not_depend_on_the_split(open_chain, wafers, clean):
    chain, graph, _ = open_chain()
    for max_events in (1, 7, 64, 499):
        parts = [
            run(chain, graph, part)[0]
            for part in split(wafers.select(graph.inputs.names), max_events)
        ]
        joined = concatenate(parts)
        for name in ("event_id", "packed", "outcome", "decision"):
            np.testing.assert_array_equal(
                joined[name], clean[0][name], err_msg=f"{max_events}: {name}"
            )


def test_nothing_of_the_input_is_written_to(open_chain, wafers):
    chain, graph, _ = open_chain(stage={"use": "test.trap", "name": "trap", "ids": [5]})
    before = {name: array.copy() for name, array in wafers.columns.items()}
    frozen = {name: array.copy() for name, array in wafers.columns.items()}
    for array in frozen.values():
        array.flags.writeable = False
    run(chain, graph, EventBatch(frozen, 500))
    for name, array in before.items():
        np.testing.assert_array_equal(frozen[name], array)


def test_meters_count_what_the_stages_saw(open_chain, wafers):
    chain, graph, block = open_chain()
    for part in split(wafers, 100):
        run(chain, graph, part)
    for name, total in stage_totals([block]).items():
        assert (total.events, total.batches) == (500, 5), name
        assert total.service.sum() == total.wait.sum() == 5
        assert total.service_ns > 0


def test_monitors_see_every_event_of_their_sample(open_chain, wafers):
    chain, graph, block = open_chain(emd=1.0, stage={"use": "test.trap", "name": "t", "ids": [7]})
    kept, _, _ = run(chain, graph, wafers)
    chain._monitor_runner.close()  # let it see what waits
    total = monitor_totals([block])["emd"]
    with_charge = int(((kept["sum_q"] > 0) & (kept[OUTCOME.name] < Outcome.SHED)).sum())
    assert total.dropped == 0
    assert total.n == pytest.approx(with_charge, abs=20)  # wafers whose sum is lost have none
    assert total.n <= 499


@pytest.fixture(autouse=True)
def _monitors_close_once(monkeypatch):
    """A test may close the monitors early; the chain's own closing is then idle."""
    from sluice.pipeline.execution.monitor_runner import MonitorRunner

    close = MonitorRunner.close

    def once(self):
        if not getattr(self, "_closed_by_test", False):
            self._closed_by_test = True
            close(self)

    monkeypatch.setattr(MonitorRunner, "close", once)


def test_a_stage_that_breaks_on_blank_events_is_named_before_the_start(open_chain):
    with pytest.raises(RunError, match=r"'trap'.*ArithmeticError: sprung"):
        open_chain(stage={"use": "test.trap", "name": "trap", "ids": [0]})


def test_a_model_whose_swap_was_refused_is_not_used_by_later_ones(open_chain, wafers):
    """Another worker could not load it, so its epoch begins with a swap of another stage."""
    chain, graph, _ = open_chain()
    batch = wafers.select(graph.inputs.names)
    encoder, half = find_model(graph.models()["encode"]["name"]), find_model("wafer-tagger-half")

    def scores(epoch):
        return chain.run(batch, 0, 0, epoch)[0]["score"].copy()

    before = scores(0)
    chain.prepare("tag", 1, half)
    chain.prepare("encode", 1, encoder)
    np.testing.assert_array_equal(scores(1), before)
    chain.prepare("tag", 2, half)
    np.testing.assert_array_equal(scores(1), before)
    assert not np.array_equal(scores(2), before)
