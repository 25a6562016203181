"""Silence: who is noticed, when, and who is not."""

from __future__ import annotations

import pytest

from sluice.pipeline.config.graph_file import parse_graph
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.engine.distributed.liveness import Liveness
from sluice.pipeline.engine.workers.join import JoinReply, reachable_endpoint, tai_offset_ns
from sluice.pipeline.engine.workers.link import RemoteLink


def look(liveness, start, stop, step=0.05):
    """Look every `step` seconds; return the time of the first silence, None if there is none."""
    ticks = round((stop - start) / step)
    for tick in range(ticks + 1):
        now = start + tick * step
        if liveness.timed_out(now):
            return now
    return None


def test_a_silent_worker_is_noticed_within_the_bound_and_a_tick():
    liveness = Liveness(5.0)
    look(liveness, 0.0, 10.0)
    liveness.seen("w", 10.0)
    noticed = look(liveness, 10.05, 30.0)
    assert noticed is not None
    assert 15.0 < noticed < 15.2
    liveness.forget("w")
    assert look(liveness, noticed, noticed + 20) is None


def test_a_worker_that_reports_is_not_timed_out():
    liveness = Liveness(3.0)
    liveness.timed_out(0.0)
    for tick in range(400):
        now = tick * 0.25
        if tick % 4 == 0:
            liveness.seen("w", now)
        assert liveness.timed_out(now) == []


def test_a_worker_that_was_never_heard_is_still_getting_ready():
    assert look(Liveness(1.0), 0.0, 60.0) is None


def test_no_worker_times_out_because_ingest_itself_was_stopped():
    liveness = Liveness(5.0)
    liveness.timed_out(0.0)
    liveness.seen("w", 0.0)
    assert liveness.timed_out(1000.0) == []  # a laptop's lid, a debugger, a stopped process group
    noticed = look(liveness, 1000.05, 1100.0)
    assert noticed is not None
    assert noticed > 1005.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('hang_timeout = "2 s"', "at least 3 s"),
        ('hang_timeout = "soon"', "hang_timeout"),
        ("compute = 0", "expected at least 1 worker"),
        ('listen = "tcp://127.0.0.1:1"', "both listen and results"),
        ('results = "tcp://127.0.0.1:1"', "both listen and results"),
        ('listen = "tcp://*:1"\nresults = "tcp://127.0.0.1:2"', "which others can reach"),
        ('listen = "tcp://127.0.0.1:1"\nresults = "tcp://*:2"', "which others can reach"),
        ('security = { allow = ["x"] }\nlisten = "tcp://127.0.0.1:1"\n'
         'results = "tcp://127.0.0.1:2"', "a key beside allow"),
    ],
)  # fmt: skip
def test_workers_that_cannot_be(table, words):
    text = f'[graph]\nname = "g"\n[source]\nuse = "x"\n[sink]\nuse = "y"\n[workers]\n{table}\n'
    with pytest.raises(ConfigError, match=words):
        parse_graph(text, "here")


def join_reply(sent_ns):
    config = parse_graph('[graph]\nname = "g"\n[source]\nuse = "x"\n[sink]\nuse = "y"\n', "here")
    return JoinReply(
        session=1, config=config, source=(), bor={}, models={}, epoch=0, swap=None, segment=0,
        results="tcp://*:1", tai_offset_ns=tai_offset_ns(), sent_ns=sent_ns, timeout_s=5.0,
    )  # fmt: skip


def test_clocks_that_are_not_set_are_refused_with_the_difference():
    import time

    now = time.clock_gettime_ns(time.CLOCK_TAI)
    join_reply(now).check_clock()
    with pytest.raises(RunError, match=r"\+37\.0 s from ingest"):
        join_reply(now - 37_000_000_000).check_clock()
    with pytest.raises(RunError, match=r"-37\.0 s from ingest"):
        join_reply(now + 37_000_000_000).check_clock()


def test_results_that_are_nowhere():
    for nowhere in ("", "tcp://", "tcp://x", "5562"):
        with pytest.raises(ConfigError, match="results"):
            reachable_endpoint("tcp://daq7:5561", nowhere)


@pytest.fixture
def away(monkeypatch):
    """Return the link of a remote worker that has just had a message, and what sets its clock."""
    import time

    link = RemoteLink(None, None, 0, 5.0)  # type: ignore[arg-type]
    link.on_message()
    now = time.monotonic()
    return link, lambda later_s: monkeypatch.setattr(time, "monotonic", lambda: now + later_s)


def test_ingest_that_is_silent_is_gone(away):
    link, set_clock = away
    for later_s in (0.5, 1.5, 2.5, 3.5, 4.5):
        set_clock(later_s)
        assert link.is_lost() is False
    set_clock(5.5)
    with pytest.raises(RunError, match="no message from ingest for 5 s"):
        link.is_lost()


def test_a_worker_that_was_suspended_reads_what_has_come_before_it_gives_up(away):
    link, set_clock = away
    for later_s in (3600.0, 3601.0, 3602.0, 3603.0, 3604.0):
        set_clock(later_s)
        assert link.is_lost() is False
    set_clock(3605.5)
    with pytest.raises(RunError, match="no message from ingest for 5 s"):
        link.is_lost()
