"""Processes that were started side by side end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from sluice.exporters.training.parallel import process_pool

#: Says which processes do its tasks, then waits for tasks that take minutes.
PARENT = """
import os, signal, time
from sluice.exporters.training.parallel import process_pool

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

def who(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    with process_pool(2) as pool:
        print(*{one.result() for one in [pool.submit(who, 0.5) for _ in range(2)]}, flush=True)
        for one in [pool.submit(who, 300) for _ in range(4)]:
            one.result()
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        signal.SIGKILL,
    ],
)
def test_processes_end_with_their_parent(number, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert children
        assert all(map(alive, children))
        parent.send_signal(number)
        parent.wait(20)
        until = time.monotonic() + 20
        while any(map(alive, children)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(alive, children))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def fail_while_busy():
    with process_pool(1) as pool:
        pool.submit(time.sleep, 300)
        raise ValueError("enough")


def test_an_error_in_the_block_does_not_wait_for_the_tasks():
    started = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        fail_while_busy()
    assert time.monotonic() - started < 30


def test_each_process_is_prepared_and_results_come_back():
    with process_pool(1, partial(os.umask, 0o123)) as pool:
        assert pool.submit(os.umask, 0o123).result() == 0o123
        assert pool.submit(os.getpid).result() != os.getpid()
