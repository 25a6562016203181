from __future__ import annotations

import json
import logging
import os
import re

import pytest

from sluice.pipeline.core import log as records
from sluice.pipeline.core.log import fields, set_context
from sluice.pipeline.system import log
from sluice.pipeline.system.log import LogLevel, configure, configure_child, is_journal

LOG = logging.getLogger("sluice.test")


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Leave neither handler, level nor variable to other tests."""
    monkeypatch.setenv(log.VARIABLE, "")
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield
    logger = logging.getLogger("sluice")
    logger.setLevel(logging.NOTSET)
    for handler in [h for h in logger.handlers if isinstance(h, log.StderrHandler)]:
        logger.removeHandler(handler)
    records.context.clear()


def written(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_line_has_time_level_process_run_and_sentence(capsys):
    configure(LogLevel.INFO, "ingest")
    set_context(run=7)
    LOG.info("worker %s is ready", "compute-0", extra=fields("worker-ready", worker="compute-0"))
    LOG.debug("not written")
    (line,) = written(capsys)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    ingest: run 7: worker compute-0 is ready",
        line,
    )


def test_json_lines_have_the_fields(capsys):
    configure(LogLevel.WARNING, "ingest", as_json=True)
    set_context(run=7)
    extra = fields("worker-exited", worker="compute-0", pid=42, signal="SIGKILL", folder=os)
    LOG.warning("two\nlines", extra=extra)
    LOG.info("not written")
    (line,) = written(capsys)
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "warning", "logger": "sluice.test", "event": "worker-exited",
        "message": "two\nlines", "process": "ingest", "run": 7, "worker": "compute-0", "pid": 42,
        "signal": "SIGKILL", "folder": str(os),
    }  # fmt: skip


def test_a_peer_cannot_forge_a_line(capsys):
    configure(LogLevel.INFO, "ingest")
    LOG.warning("peer %s", "x\n2026-01-01T00:00:00.000Z ERROR ingest: \x1b[2Jforged\x85")
    (line,) = written(capsys)
    assert "x\\x0a2026" in line
    assert "\\x1b[2Jforged\\x85" in line


def test_a_traceback_follows_on_lines_of_its_own(capsys):
    configure(LogLevel.INFO, "ingest")
    try:
        raise ValueError("why")
    except ValueError:
        LOG.exception("it failed")
    lines = written(capsys)
    assert lines[0].endswith("ingest: it failed")
    assert lines[-1] == "ValueError: why"


def test_configuring_again_replaces(capsys):
    configure(LogLevel.INFO, "ingest")
    configure(LogLevel.INFO, "ingest", as_json=True)
    LOG.info("once")
    assert len(written(capsys)) == 1


def test_a_child_is_configured_as_its_parent(capsys):
    configure(LogLevel.DEBUG, "ingest", as_json=True)
    configure_child("compute-1", 9)
    LOG.debug("started")
    found = json.loads(written(capsys)[0])
    assert (found["process"], found["run"], found["level"]) == ("compute-1", 9, "debug")


def test_a_child_of_a_program_without_a_log_has_none(monkeypatch, capsys):
    monkeypatch.delenv(log.VARIABLE)
    configure_child("compute-1", 9)
    LOG.error("not written")
    assert written(capsys) == []


@pytest.mark.parametrize("stream", ["", ":", "1:2", "1:2:3", "a:b"])
def test_another_stream_is_no_journal(stream):
    assert not is_journal({"JOURNAL_STREAM": stream})
