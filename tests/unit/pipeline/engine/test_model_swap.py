"""The steps of a swap, without processes: who is asked, when it begins, what refuses it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sluice.pipeline.config.graph_file import load_graph
from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ErrorRecord, ModelError, RunError
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.engine.distributed import swap_coordinator
from sluice.pipeline.engine.distributed.swap_coordinator import SwapCoordinator
from sluice.pipeline.engine.model_swap import SwapReply
from sluice.pipeline.engine.swap_requests import SwapQueue, SwapRequest
from sluice.pipeline.inference.repository import find_model, find_model_by_label
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.quarantine import Quarantine

WORKERS = ["compute-0", "compute-1"]


class SwapHarness:
    """A SwapCoordinator with a stand-in for the context, and what it has sent."""

    def __init__(self):
        info = {"name": "wafer-tagger", "version": "0", "sha256": "0", "backend": "onnxruntime:cpu"}
        graph = SimpleNamespace(
            config=load_graph("hgcal"), rungs=1, joins=(), paths=list, report=lambda events: {},
            models=lambda: {"tag": info, "encode": info},
        )  # fmt: skip
        account = RunAccounting(graph, 7, Quarantine(None, Schema()))
        self.context = SimpleNamespace(
            graph=graph, accounting=account, swap_queue=SwapQueue(), resumed=None
        )
        self.sent = []
        self.swaps = SwapCoordinator(
            self.context, lambda worker, swap: self.sent.append((worker, swap))
        )
        self.epochs = self.swaps.epochs

    def request(self, stage="tag"):
        request = SwapRequest(stage, find_model("wafer-tagger"))
        self.context.swap_queue.put(request)
        return request

    def step(self, seq=5, oldest=None, workers=WORKERS):
        self.swaps.advance(workers, self.epochs.epoch if oldest is None else oldest, seq)

    def ready(self, worker, error=None):
        attempt = next(s.attempt for w, s in reversed(self.sent) if w == worker)
        self.swaps.on_reply(worker, SwapReply(attempt, error))

    def swap(self, seq=5):
        request = self.request()
        self.step()
        for worker in WORKERS:
            self.ready(worker)
        self.step(seq)
        return request.wait(0)


@pytest.fixture
def harness():
    return SwapHarness()


def batch(first):
    return EventBatch({"event_id": np.arange(first, first + 3, dtype=np.uint64)}, 3)


def test_it_begins_when_all_are_ready_and_not_before(harness):
    request = harness.request()
    harness.step(seq=5)
    assert [worker for worker, _ in harness.sent] == WORKERS
    harness.ready("compute-0")
    harness.step(seq=6)
    assert (harness.epochs.epoch, request.done) == (0, False)
    harness.ready("compute-1")
    harness.step(seq=7)
    assert harness.epochs.epoch == 1
    record = request.wait(0)
    assert (record["epoch"], record["stage"], record["seq"]) == (1, "tag", 7)
    assert record["first_event"] is None
    harness.epochs.record_first_event(batch(70))
    harness.epochs.record_first_event(batch(73))
    assert harness.context.accounting.snapshot().swaps == [record]
    assert record["first_event"] == 70
    assert harness.context.accounting.models["tag"]["name"] == "wafer-tagger"
    assert harness.context.accounting.models["tag"]["version"] == "1"


def test_the_next_waits_for_the_last_batch_of_the_epoch_before(harness):
    harness.swap()
    harness.request()
    sent = len(harness.sent)
    harness.step(oldest=0)
    harness.step(workers=None)
    assert len(harness.sent) == sent
    harness.step()
    assert len(harness.sent) == sent + 2
    assert {swap.epoch for _, swap in harness.sent[sent:]} == {2}


def test_one_that_cannot_refuses_for_all(harness):
    request = harness.request()
    harness.step()
    harness.ready("compute-0")
    harness.ready("compute-1", ErrorRecord("compute-1", "ModelError", "golden outputs differ"))
    with pytest.raises(ModelError, match="compute-1: golden outputs differ"):
        request.wait(0)
    harness.step()
    assert harness.epochs.epoch == 0
    again = harness.request()
    harness.step()
    late = SwapReply(1)  # an answer to the first attempt
    harness.swaps.on_reply("compute-0", late)
    harness.swaps.on_reply("compute-1", late)
    harness.step()
    assert (harness.epochs.epoch, again.done) == (0, False)


def test_a_worker_that_exits_may_try_once_more(harness):
    request = harness.request()
    harness.step()
    harness.ready("compute-0")
    harness.swaps.on_worker_exit("compute-1")
    harness.swaps.on_worker_ready("compute-1", 0)
    harness.step()
    assert harness.epochs.epoch == 0
    assert [worker for worker, _ in harness.sent] == [*WORKERS, "compute-1"]
    harness.swaps.on_worker_exit("compute-1")
    with pytest.raises(RunError, match="workers die while they load wafer-tagger/1"):
        request.wait(0)


def test_a_worker_that_comes_late_is_sent_what_it_missed(harness):
    harness.swap()
    harness.swaps.on_worker_ready("compute-1", 0)
    worker, swap = harness.sent[-1]
    assert (worker, swap.epoch) == ("compute-1", 1)
    sent = len(harness.sent)
    harness.swaps.on_worker_ready("compute-1", 1)
    assert len(harness.sent) == sent


def test_a_restarted_worker_begins_with_both_epochs_then_with_one(harness):
    harness.swap()
    stage = next(part for part in harness.epochs.config.stages if part.name == "tag")
    assert "version" not in stage.options
    assert harness.epochs.latest.epoch == 1
    harness.step()
    stage = next(part for part in harness.epochs.config.stages if part.name == "tag")
    assert stage.options["version"] == 1
    assert harness.epochs.latest is None
    assert harness.epochs.models["tag"]["version"] == "1"


def test_nobody_waits_for_ever(harness, monkeypatch):
    monkeypatch.setattr(swap_coordinator, "_PREPARE_TIMEOUT_S", -1.0)
    request = harness.request()
    harness.step()
    harness.step()
    with pytest.raises(RunError, match=r"not ready after .*: compute-0, compute-1"):
        request.wait(0)
    forgotten = harness.request()
    with pytest.raises(RunError, match="no answer in 0 s"):
        forgotten.wait(0)
    sent = len(harness.sent)
    harness.step()
    assert len(harness.sent) == sent
    pending, queued = harness.request(), None
    harness.step()
    queued = harness.request()
    harness.epochs.close()
    for request in (pending, queued):
        with pytest.raises(RunError, match="the run ended before it"):
            request.wait(0)
    with pytest.raises(RunError, match="the run ended before it"):
        harness.request()


def test_labels():
    assert find_model_by_label("wafer-tagger@1") == find_model_by_label("wafer-tagger")
    for label in ("wafer-tagger@", "wafer-tagger@v1", "wafer-tagger@-1"):
        with pytest.raises(ModelError, match="NAME@VERSION"):
            find_model_by_label(label)
