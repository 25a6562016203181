"""What a program writes whose standard error is the journal."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, os
from sluice.pipeline.system.log import LogLevel, configure
stderr = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{stderr.st_dev}:{stderr.st_ino}"
configure(LogLevel.DEBUG, "ingest", as_json=%s)
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(logging.getLogger("sluice"), level)("%%s happened", level)
try:
    raise ValueError("why")
except ValueError:
    logging.getLogger("sluice").exception("it failed")
"""


def journal(as_json):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM % as_json], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_journald_gets_priorities_and_no_time():
    lines = journal(False)
    assert lines[:5] == [
        "<7>DEBUG   ingest: debug happened",
        "<6>INFO    ingest: info happened",
        "<4>WARNING ingest: warning happened",
        "<3>ERROR   ingest: error happened",
        "<2>CRITICAL ingest: critical happened",
    ]
    assert lines[5] == "<3>ERROR   ingest: it failed"
    assert all(line.startswith("<3>") for line in lines[5:])


def test_journald_gets_priorities_before_json():
    lines = journal(True)
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert [json.loads(line[3:])["level"] for line in lines][:2] == ["debug", "info"]
