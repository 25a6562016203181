"""A process or host that has too little of something: the run says of what, and has a report."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sluice.pipeline.recording import Recording

#: Starts a command with a limit, in bytes for memory.
LIMITED = """
import os, resource, sys
limit = getattr(resource, sys.argv[1])
resource.setrlimit(limit, (int(sys.argv[2]), int(sys.argv[2])))
os.execv(sys.argv[3], sys.argv[3:])
"""
#: Opens a socket in a process without memory for the stack of a thread.
NO_MEMORY = """
import resource, sys
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.transport.socket import Socket
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize() + (4 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    Socket(sys.argv[1])
except RunError as error:
    sys.exit(str(error))
"""
#: Mounts a file system for one command only; exits with 99 where that is not allowed.
MOUNTED = 'mkdir -p "$2" && mount -t tmpfs -o "$1" tmpfs "$2" || exit 99; shift 2; exec "$@"'
SHARED_MEMORY = "/dev/shm"  # noqa: S108 -- of a mount namespace of its own
SLUICE = f"{sys.prefix}/bin/sluice"


@pytest.fixture
def replay(wafers, make_graph, tmp_path, load_report):
    """Replay with a prefix of the command line; return exit code, standard error and report."""
    keep = {"use": "recording", "keep": "all", "columns": ["event_id", "score"]}
    graph = make_graph(sink=keep)

    def run(*prefix, engine="distributed", **env):
        out, report = tmp_path / "o.arrows", tmp_path / "r.json"
        command = [*prefix, SLUICE, "replay", wafers, "--graph", graph, "--engine", engine,
                   "--out", out, "--report", report]  # fmt: skip
        environment = {**os.environ, "SLUICE_STATE": str(tmp_path / "state"), **env}
        done = subprocess.run([str(word) for word in command], env=environment, check=False,
                              capture_output=True, text=True, timeout=100)  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr, load_report(report)

    return run


def limited(limit, value):
    return sys.executable, "-c", LIMITED, limit, value


def mounted(options, folder):
    return "unshare", "-m", "bash", "-c", MOUNTED, "x", options, folder


def assert_failed(result, *words):
    code, text, report = result
    assert code == 5, text
    assert (report["state"], report["closed"]) == ("ERROR", True)
    for word in words:
        assert word in f"{report['error']} {report['hint']}"
        assert word in text


@pytest.mark.parametrize("engine", ["inline", "distributed"])
def test_too_few_descriptors(replay, engine):
    result = replay(*limited("RLIMIT_NOFILE", 16), engine=engine)
    assert_failed(result, "Too many open files", "open files of this process", "ulimit -n")


@pytest.mark.mounts
def test_too_little_memory_for_shared_slots(replay):
    assert_failed(
        replay(*mounted("size=64k", SHARED_MEMORY)), "No space left", "make /dev/shm larger"
    )


def test_too_little_memory_for_the_threads_of_zeromq(tmp_path):
    """Without them libzmq ends the process by SIGABRT."""
    command = [sys.executable, "-c", NO_MEMORY, f"ipc://{tmp_path}/socket"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    assert "can't start new thread" in done.stderr
    assert "the limit of threads, processes, or memory for them is reached: raise" in done.stderr


@pytest.mark.mounts
def test_a_home_that_cannot_be_written_is_no_obstacle(replay, tmp_path):
    home = tmp_path / "home"
    code, text, report = replay(*mounted("ro", home), HOME=str(home), engine="inline")
    assert (code, report["state"], report["error"]) == (0, "STOPPED", None), text
    recording = Recording(tmp_path / "o.arrows")
    ids = [event for batch in recording.batches() for event in batch["event_id"].tolist()]
    recording.close()
    assert ids == list(range(1, 20_001))
