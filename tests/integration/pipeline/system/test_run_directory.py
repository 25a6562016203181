"""The folder of a run: gone with the run, also with one that was killed."""

import signal
import subprocess
import sys

from sluice.pipeline.system.run_directory import run_directory

_RUN = """
import sys, time
from sluice.pipeline.system.run_directory import run_directory
with run_directory() as folder:
    (folder / "slots").write_bytes(b"0")
    print(folder, flush=True)
    sys.stdin.read()
"""


def start():
    """Start a process that has a folder; return both."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def exists(path):
    """Whether a folder is there; each time anew."""
    return subprocess.run(["test", "-d", path], check=False).returncode == 0


def test_a_folder_ends_with_its_run():
    """With all that is in it."""
    with run_directory() as folder:
        (folder / "hub").touch()
        assert folder.is_dir()
    assert not folder.exists()


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_else():
    """Who lives keeps the folder."""
    killed, left = start()
    living, kept = start()
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert exists(left)
        with run_directory():
            assert not exists(left)
            assert exists(kept)
    finally:
        living.stdin.close()
        living.wait(10)
        for process in (killed, living):
            process.stdout.close()
        killed.stdin.close()
    assert living.returncode == 0
    assert not exists(kept)
