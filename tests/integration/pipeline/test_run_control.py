"""Run control as its users have it: pause, resume, stop, and a daemon that waits for start."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request

import pytest

SINK = {"use": "recording", "keep": "all", "columns": ["event_id", "decision"]}


@pytest.fixture
def ctl(sluice, http):
    """Run ``sluice ctl`` against the daemon under test."""

    def act(*arguments, **options):
        return sluice("ctl", *arguments, "--address", f"127.0.0.1:{http.port}", **options)

    return act


@pytest.fixture
def live(live_graph, endpoint):
    """A graph with a small backlog, and its endpoint."""
    return live_graph(source={"backlog": 500}, sink=SINK), endpoint


def status(http):
    return json.loads(http.get("/status")[1])


def wait_until_decided(http):
    """Wait until what was in flight is decided; return the events offered."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        events = status(http)["report"]["events"]
        if sum(events.values()) == 2 * events["offered"]:
            return events["offered"]
        time.sleep(0.02)
    pytest.fail("events stay in flight while paused")


@pytest.mark.long
@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_pause_and_resume(engine, launch, http, ctl, make_graph, wafers, tmp_path, load_report):
    report = tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", make_graph(sink=SINK), "--rate", 4000, "--engine", engine,
        "--report", report, "--out", tmp_path / "o.arrows", "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 500)
    paused = ctl("pause")
    assert (paused.code, paused.out[:6]) == (0, "PAUSED"), paused
    time.sleep(0.1)
    before = wait_until_decided(http)
    time.sleep(1)
    assert wait_until_decided(http) == before < 20_000
    assert http.get("/readyz") == (503, "PAUSED")
    assert http.get("/livez") == (200, "PAUSED")
    page = http.get("/metrics")[1]
    assert "\nsluice_run_paused 1.0\n" in page
    assert 'sluice_run_state{state="PAUSED"} 1.0' in page
    assert float(re.search(r'sluice_run_seconds_total{state="paused"} (\S+)', page)[1]) > 0.9
    assert ctl("pause").code == 0  # twice is once
    assert "RUNNING" in ctl("resume").out
    done = command.finish()
    assert done.code == 0, done
    result = load_report(report)
    assert result["events"]["offered"] == result["output"]["events"] == 20_000
    assert result["seconds"]["paused"] > 1
    # A paced replay's schedule rests as well: nobody waited for the pause to end.
    assert result["latency_s"]["p99"] < 1


def test_a_paused_live_source_makes_its_front_end_wait(
    launch, http, ctl, live, sluice, tmp_path, load_report
):
    graph, endpoint = live
    report = tmp_path / "r.json"
    command = launch("run", graph, "--report", report, "--http", f"127.0.0.1:{http.port}")
    http.ready(command)
    assert ctl("pause").code == 0
    time.sleep(0.1)
    sent = sluice("emulate", "wafers", "--to", endpoint, "--rate", 2000, "--seconds", 1, "--json")
    said = json.loads(sent.out)
    taken = said["acknowledged"]
    assert taken < 500  # the backlog, less what makes ingest say that it is busy
    assert taken + said["suppressed"] == 2000
    assert status(http)["report"]["events"]["shed"] == 0
    assert ctl("resume").code == 0
    http.settled(command, taken)
    stopped = ctl("stop")
    assert stopped.code == 0, stopped
    assert stopped.out.startswith("STOPPED · run 1"), stopped
    assert command.finish(30).code == 0
    result = load_report(report)
    assert result["events"]["offered"] == taken
    assert result["events"]["shed"] == 0
    assert result["seconds"]["paused"] > 1


@pytest.mark.parametrize("engine", [pytest.param("inline", marks=pytest.mark.long), "distributed"])
def test_stop_while_paused_drains(
    engine, launch, http, ctl, make_graph, wafers, tmp_path, load_report
):
    report = tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", make_graph(sink=SINK), "--rate", 4000, "--engine", engine,
        "--report", report, "--http", f"127.0.0.1:{http.port}",
    )  # fmt: skip
    http.settled(command, 500)
    assert ctl("pause").code == 0
    assert ctl("stop").code == 0
    done = command.finish(30)
    assert done.code == 9, done
    result = load_report(report)
    assert result["state"] == "STOPPED"
    assert result["events"]["failed"] == 0
    assert 500 <= result["events"]["offered"] < 20_000


def test_abort_gives_up_what_is_in_flight(
    launch, http, ctl, make_graph, wafers, tmp_path, load_report
):
    delay = {"use": "test.delay", "name": "slow", "seconds": 1.0}
    graph = make_graph(first=[delay], sink=SINK, graph={"batch_events": 500, "window": 4})
    report = tmp_path / "r.json"
    command = launch(
        "replay", wafers, "--graph", graph, "--report", report, "--http", f"127.0.0.1:{http.port}"
    )
    http.ready(command)
    time.sleep(0.3)
    assert ctl("stop", "--abort", "--timeout", 20).code in (0, 5)  # 5 where ERROR was still seen
    done = command.finish(30)
    assert done.code == 5, done
    assert load_report(report)["events"]["failed"] >= 500


@pytest.mark.long
def test_a_waiting_daemon_makes_run_after_run(
    launch, http, ctl, live, sluice, tmp_path, load_report
):
    graph, endpoint = live
    command = launch(
        "run", graph, "--wait", "--http", f"127.0.0.1:{http.port}",
        "--report", tmp_path / "r-{run}.json",
    )  # fmt: skip
    http.until("/livez", lambda code, text: (code, text) == (200, "CONFIGURED"), command)
    assert http.get("/readyz")[0] == 503
    assert status(http)["report"] is None
    assert 'sluice_run_state{state="CONFIGURED"} 1.0' in http.get("/metrics")[1]
    assert not command.workers()
    for action, words in (("pause", "cannot pause while CONFIGURED"), ("stop", "there is no run")):
        refused = ctl(action)
        assert refused.code == 5, refused
        assert words in refused.err
    for run, events in ((1, 400), (2, 600)):
        started = ctl("start")
        assert (started.code, started.out) == (0, f"RUNNING · run {run} · 0 events, 0 accepted\n")
        again = ctl("start")
        assert (again.code, "cannot start while in a run" in again.err) == (5, True)
        assert ctl("configure").code == 5
        sent = sluice("emulate", "--to", endpoint, "--rate", 2000, "--seconds", events / 2000,
                      "--json")  # fmt: skip
        assert json.loads(sent.out)["acknowledged"] == events
        http.settled(command, events)
        stopped = ctl("stop")
        assert stopped.out.startswith(f"STOPPED · run {run} · {events} events"), stopped
        result = load_report(tmp_path / f"r-{run}.json")
        assert result["run"] == run
        assert result["events"]["offered"] == events
        assert result["output"]["path"].endswith(f"run-{run:06d}.arrows")
        assert not command.workers()
    command.signal(signal.SIGTERM)
    done = command.finish(30)
    assert done.code == 0, done


def test_sigterm_ends_a_waiting_daemon_in_its_run(
    launch, http, ctl, live, sluice, tmp_path, load_report
):
    graph, endpoint = live
    report = tmp_path / "r-{run}.json"
    listen = f"127.0.0.1:{http.port}"
    command = launch("run", graph, "--wait", "--http", listen, "--report", report)
    http.until("/livez", lambda code, _: code == 200, command)
    assert ctl("start").code == 0
    sluice("emulate", "--to", endpoint, "--rate", 2000, "--seconds", 0.2)
    http.settled(command, 400)
    command.signal(signal.SIGTERM)
    assert command.finish(30).code == 0
    assert load_report(tmp_path / "r-1.json")["events"]["offered"] == 400


def test_configure_reads_the_file_anew_and_leads_out_of_error(
    launch, http, ctl, live, tmp_path, models, load_report
):
    graph, _ = live
    sound = graph.read_text()
    command = launch(
        "run", graph, "--wait", "--engine", "inline", "--http", f"127.0.0.1:{http.port}",
        "--report", tmp_path / "r-{run}.json",
    )  # fmt: skip
    http.until("/livez", lambda code, _: code == 200, command)
    graph.write_text(sound.replace('name = "hgcal"', 'nam = "hgcal"'))
    refused = ctl("configure")
    assert refused.code == 5, refused
    assert "did you mean 'name'" in refused.err
    assert status(http)["state"] == "CONFIGURED"

    graph.write_text(re.sub(r"tcp://127\.0\.0\.1:\d+", f"tcp://127.0.0.1:{http.port}", sound))
    assert ctl("configure").code == 0
    failed = ctl("start")  # that port is taken, by HTTP itself
    assert failed.code == 5, failed
    assert "in use" in failed.err
    assert http.get("/livez") == (503, "ERROR")
    assert "in use" in status(http)["cause"]
    again = ctl("start")
    assert again.code == 5
    assert "put it right, then configure" in again.err

    graph.write_text(sound.replace('name = "hgcal"', 'name = "other"'))
    assert ctl("configure").out.startswith("CONFIGURED")
    assert ctl("start").code == 0
    assert ctl("stop").code == 0
    command.signal(signal.SIGTERM)
    assert command.finish(30).code == 0
    (written,) = tmp_path.glob("r-*.json")
    assert load_report(written)["graph"] == "other"


def test_a_daemon_that_runs_once_says_so(launch, http, ctl, live, sluice):
    command = launch("run", live[0], "--http", f"127.0.0.1:{http.port}", "--engine", "inline")
    http.ready(command)
    for action in ("start", "configure"):
        refused = ctl(action)
        assert refused.code == 5, refused
        assert "--wait" in refused.err
    page = sluice("top", "--once", "--address", f"127.0.0.1:{http.port}")
    assert page.code == 0, page
    assert page.out.startswith("RUNNING  run 1 · graph hgcal")
    answer = ctl("status", "--json")
    assert json.loads(answer.out)["state"] == "RUNNING"
    assert ctl("stop").code == 0
    assert command.finish(30).code == 0


def test_what_a_waiting_daemon_would_overwrite_is_refused(together, live):
    graph = live[0]
    for done, word in zip(
        together(
            ("run", graph, "--wait", "--report", "r.json"),
            ("run", graph, "--wait", "--quarantine", "q.arrows"),
            ("run", graph, "--wait", "--out", "o.arrows"),
            ("run", graph, "--wait", "--run", "5"),
        ),
        ("--report", "--quarantine", "sink", "--run"),
        strict=True,
    ):
        assert done.code == 2, done
        assert word in done.err


def test_ctl_where_nobody_or_somebody_else_answers(sluice, free_port, http, launch):
    nobody = sluice("ctl", "status", "--address", f"127.0.0.1:{free_port}")
    assert nobody.code == 5, nobody
    assert f"no daemon answers at 127.0.0.1:{free_port}" in nobody.err
    wrong = sluice("ctl", "status", "--address", "here")
    assert wrong.code == 2, wrong
    assert "expected host:port" in wrong.err


TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_http_beyond_loopback_needs_a_token(
    launch, sluice, http, ctl, live_graph, token_file, tmp_path
):
    refused = sluice("run", live_graph(sink=SINK), "--http", f"0.0.0.0:{http.port}")
    assert refused.code == 2, refused
    assert "token_file" in refused.err

    graph = live_graph("token", sink=SINK, http={"token_file": str(token_file)})
    token_file.chmod(0o644)
    refused = sluice("run", graph, "--http", f"0.0.0.0:{http.port}")
    assert refused.code == 2, refused
    assert "chmod 600" in refused.err
    token_file.chmod(0o600)

    command = launch("run", graph, "--http", f"0.0.0.0:{http.port}", "--engine", "inline")
    http.ready(command)
    assert http.get("/metrics")[0] == 200  # looking needs none
    wrong = tmp_path / "wrong"
    wrong.write_text(TOKEN[:-1] + "X")
    wrong.chmod(0o600)
    for options in ((), ("--token-file", wrong)):
        refused = ctl("pause", *options)
        assert refused.code == 2, refused
        assert "token" in refused.err
        assert TOKEN not in refused.err + refused.out
        assert status(http)["state"] == "RUNNING"
    assert ctl("pause", "--token-file", token_file).code == 0
    assert status(http)["state"] == "PAUSED"
    assert ctl("stop", env={"SLUICE_TOKEN_FILE": str(token_file)}).code == 0
    assert command.finish(30).code == 0


def test_a_page_of_another_site_cannot_control(launch, http, ctl, live):
    command = launch("run", live[0], "--http", f"127.0.0.1:{http.port}", "--engine", "inline")
    http.ready(command)

    def post(origin, host):
        headers = {"Origin": origin, "Host": host}
        url = f"http://127.0.0.1:{http.port}/pause"
        request = urllib.request.Request(url, method="POST", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    here = f"127.0.0.1:{http.port}"
    assert post("http://elsewhere.example", here) == 403
    rebound = f"elsewhere.example:{http.port}"
    assert post(f"http://{rebound}", rebound) == 403
    assert status(http)["state"] == "RUNNING"
    assert http.get("/pause")[0] == 405  # a link cannot, either
    assert post(f"http://{here}", here) == 202
    assert status(http)["state"] == "PAUSED"
    assert ctl("stop").code == 0
    assert command.finish(30).code == 0
