"""The soak's own parts: a schedule that repeats, and checks that can fail."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import EVENT_ID, Schema
from sluice.pipeline.recording import RecordingWriter

from .faults import FAULTS
from .garbage import KINDS as GARBAGE_KINDS
from .growth import ALLOWED, _ends, _settled, grown
from .schedule import GAP_S, GARBAGE, QUIET_S, make_schedule
from .truth import count_differences
from .verdict import evaluate

KINDS = tuple(FAULTS)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_is_its_seed_s_alone_and_has_every_kind(seed):
    faults = make_schedule(seed, 1800, KINDS)
    assert faults == make_schedule(seed, 1800, KINDS)
    assert faults != make_schedule(seed + 1, 1800, KINDS)
    for start in range(0, len(faults) - len(KINDS), len(KINDS)):
        assert {fault.kind for fault in faults[start : start + len(KINDS)]} == set(KINDS)
    assert faults[0].at_s >= QUIET_S[0]
    assert faults[-1].at_s < 1800 - QUIET_S[1]
    for one, other in itertools.pairwise(faults):
        pause = other.at_s - one.at_s - one.detail.get("seconds", 0)
        assert GAP_S[0] - 0.02 <= pause <= GAP_S[1] + 0.02


def test_every_kind_of_garbage_can_be_made():
    assert {*GARBAGE_KINDS, "tcp"} == set(GARBAGE)


def process(**changed):
    quiet = {"rss_mb": [200.0, 201.0], "fds": [20.0, 20.0], "threads": [8.0, 8.0]}
    return {"process": "sink", "pid": 7, **quiet, **changed}


@pytest.mark.parametrize("key", ["rss_mb", "fds", "threads"])
def test_growth_is_found(key):
    assert grown({"processes": [process()], "shm_mb": [2, 2]}) == []
    worse = process(**{key: [20.0, 20.5 + ALLOWED[key]]})
    (said,) = grown({"processes": [process(), worse], "shm_mb": [2, 2]})
    assert key in said
    (said,) = grown({"processes": [process()], "shm_mb": [2, 2.5 + ALLOWED["shm_mb"]]})
    assert "shared memory" in said


def test_a_process_that_ran_too_briefly_is_not_checked():
    brief = {"process": "compute-0", "pid": 8, "from_s": 1.0, "to_s": 9.0}
    assert grown({"processes": [brief], "shm_mb": [0, 0]}) == []


@pytest.fixture
def stand(tmp_path):
    """What a run that ended well leaves: 10 events recorded, 2 dropped, 3 claimed, 4 accepted."""

    def write(ids):
        path = tmp_path / "run.arrows"
        with RecordingWriter(path, Schema((EVENT_ID,)), {"run": 1}) as writer:
            writer.write(EventBatch({"event_id": np.array(ids, np.uint64)}, len(ids)))
        return path

    return SimpleNamespace(
        recording=write(range(10)),
        write=write,
        claimed_events=3,
        sent=[{"events": 10, "dropped": 2, "first_id": 0}],
        replay=SimpleNamespace(events=40),
    )


@pytest.fixture
def report():
    events = {"offered": 15, "accepted": 4, "rejected": 5, "prescaled": 1, "lost": 2, "invalid": 3,
              "failed": 0}  # fmt: skip
    return {"state": "STOPPED", "error": None, "closed": True, "events": events,
            "output": {"events": 10}, "swaps": [{"to": {"name": "half"}}]}  # fmt: skip


INJECTED = [{"fault": "pause", "pause": "done", "resume": "done"},
            {"fault": "swap", "to": "half", "said": "done"}]  # fmt: skip
REPLAYED = {"state": "STOPPED", "error": None, "closed": True, "events": {"offered": 40},
            "output": {"events": 40}}  # fmt: skip
RIGHT = {"live": {}, "replay": {}}
QUIET = {"processes": [process()], "shm_mb": [2, 2]}


def bad(stand, report, growth=QUIET, injected=INJECTED, replayed=REPLAYED, wrong=RIGHT):
    checks = evaluate(stand, report, growth, injected, replayed, wrong)
    return {name for name, check in checks.items() if not check["good"]}


def test_a_good_run_passes(stand, report):
    assert bad(stand, report) == set()


@pytest.mark.parametrize(
    ("event", "check"),
    [
        ("offered", "every event sent is in the ledger"),
        ("lost", "lost is what front ends dropped"),
        ("invalid", "invalid is what mismatched messages claimed"),
        ("failed", "nothing failed"),
        ("accepted", "recorded is decided"),
    ],
)
def test_each_count_that_is_off_is_found(stand, report, event, check):
    report["events"][event] += 1
    assert bad(stand, report) == {check}


def test_ends_that_are_not_good_are_found(stand, report):
    assert bad(stand, report | {"state": "ERROR"}) == {"the run ended well"}
    assert bad(stand, report | {"closed": False}) == {"the ledger closes"}
    assert bad(stand, report, {"processes": [], "shm_mb": [0, 99]}) == {"nothing grows"}


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "kill sink", "skipped": "there was no such process"},
        {"fault": "pause", "pause": "done", "resume": "sluice: error: nobody there"},
    ],
)
def test_a_fault_that_did_not_come_to_pass_is_found(stand, report, fault):
    assert bad(stand, report, injected=[*INJECTED, fault]) == {"every fault came to pass"}


def test_a_swap_that_was_refused_or_is_not_in_the_report_is_found(stand, report):
    refused = {"fault": "swap", "to": "full", "said": "sluice: error: runs it already"}
    assert bad(stand, report, injected=[*INJECTED, refused]) == {
        "every fault came to pass", "every swap is in the report"
    }  # fmt: skip
    assert bad(stand, report | {"swaps": []}) == {"every swap is in the report"}


def test_a_process_counts_from_when_it_is_up():
    starting = [(t, 100.0, 5.0, 1.0) for t in range(20)]
    up = [(t, 300.0, 20.0, 8.0) for t in range(20, 80)]
    assert _settled(starting + up) == up
    growing = [(t, 100.0 + 3 * t, 20.0, 8.0) for t in range(100)]
    first, last = _ends([row[1] for row in _settled(growing)])
    assert last - first > ALLOWED["rss_mb"]


def test_an_event_recorded_twice_is_found(stand, report):
    stand.write([*range(9), 3])
    assert bad(stand, report) == {"no event is recorded twice", "every event sent is recorded"}


def test_a_recording_cut_short_is_found(stand, report):
    content = stand.recording.read_bytes()
    stand.recording.write_bytes(content[:-20])
    assert "the recording is whole" in bad(stand, report)


def test_an_event_of_nobody_in_place_of_one_that_was_sent_is_found(stand, report):
    stand.write([*range(9), 77])
    assert bad(stand, report) == {"every event sent is recorded"}


@pytest.mark.parametrize(
    ("recording", "check"),
    [("live", "every recorded event is right"), ("replay", "every replayed event is right")],
)
def test_wrong_content_is_found(stand, report, recording, check):
    assert bad(stand, report, wrong=RIGHT | {recording: {"score": 1}}) == {check}


def test_a_replay_that_lacks_an_event_or_failed_is_found(stand, report):
    short = REPLAYED | {"output": {"events": 39}}
    assert bad(stand, report, replayed=short) == {"every event of the replay is recorded"}
    failed = REPLAYED | {"state": "FAILED"}
    assert bad(stand, report, replayed=failed) == {"the replay ended well"}


def columns(**changed):
    made = {"event_id": np.arange(4, dtype=np.uint64), "score": np.ones((4, 3), np.float32)}
    return EventBatch(made | changed, 4)


def test_columns_are_compared_bit_by_bit():
    score = columns()["score"].copy()
    assert count_differences(columns(), columns(), ("event_id", "score")) == {
        "event_id": 0,
        "score": 0,
    }
    score[2, 1] = np.nextafter(np.float32(1), np.float32(2))
    assert count_differences(columns(score=score), columns(), ("score",)) == {"score": 1}
    rows = np.arange(4) < 2
    assert count_differences(columns(score=score), columns(), ("score",), rows) == {"score": 0}
    assert count_differences(columns(), columns(score=np.ones((4, 3))), ("score",)) == {"score": 4}
    assert count_differences(columns(), columns().slice(0, 3), ("score",)) == {"events": 1}
