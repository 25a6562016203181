"""The fork server: parents of its processes, their exits, and its replacement when killed."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing, suppress

import psutil
import pytest

from sluice.pipeline.core.errors import RunError
from sluice.pipeline.system.fork_server.client import ForkServer

PARTS = """
import json, os, signal, sys, time
from pathlib import Path


from sluice.pipeline.system.parent import end_with_parent


def start(argument):
    instructions = json.loads(argument)
    if "parent" in instructions:
        end_with_parent(instructions["parent"])
    if instructions.get("out"):
        print("said on stdout", flush=True)
        sys.stdout.write("left in the buffer")
    if instructions.get("write"):
        state = {"pid": os.getpid(), "parent": os.getppid(), "stdin": sys.stdin.read(),
                 "descriptors": sorted(os.readlink(f"/proc/self/fd/{n}")
                                       for n in os.listdir("/proc/self/fd")
                                       if os.path.exists(f"/proc/self/fd/{n}")),
                 "threads": len(os.listdir("/proc/self/task")), "folder": os.getcwd(),
                 "ignores_signals": [signal.getsignal(n) == signal.SIG_IGN
                          for n in (signal.SIGINT, signal.SIGTERM)],
                 "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, []))}
        Path(instructions["write"]).write_text(json.dumps(state))
    if instructions.get("raise"):
        raise ValueError("raised on purpose")
    time.sleep(instructions.get("sleep", 0))
    if instructions.get("orphan") and not os.fork():
        time.sleep(0.2)
        os._exit(0)
    return instructions.get("code", 0)
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Make the module that children run findable, here and in a fork server of its own."""
    (tmp_path / "child_modules.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "child_modules", raising=False)


@pytest.fixture
def ours():
    """Return the process ids of the children that came since; earlier tests may have left some."""
    others = {child.pid for child in psutil.Process().children()}
    return lambda: [c.pid for c in psutil.Process().children() if c.pid not in others]


@pytest.fixture(params=["fork", "program"])
def fork_server(request, parts, ours):
    """A fork_server of either kind; it must leave neither children nor descriptors."""
    before = descriptors()
    with closing(
        ForkServer(["child_modules", "no.such.module"], fork_now=request.param == "fork")
    ) as it:
        yield it
    assert descriptors() == before
    assert not ours()


def descriptors():
    """Return the number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def spawn(fork_server, **instructions):
    """Return a child that follows the instructions."""
    return fork_server.spawn("child_modules", json.dumps(instructions))


def test_a_child_is_ours_and_like_a_fresh_process(fork_server, tmp_path):
    child = spawn(fork_server, write=str(tmp_path / "state"))
    assert child.wait(20)
    assert child.exit_code == 0
    state = json.loads((tmp_path / "state").read_text())
    assert state["pid"] == child.pid
    assert state["parent"] == os.getpid()
    assert state["folder"] == os.getcwd()
    assert state["stdin"] == ""
    assert state["threads"] == 1
    assert state["ignores_signals"] == [True, True]
    assert state["blocked"] == 0
    assert state["descriptors"].count("/dev/null") >= 1
    assert len(state["descriptors"]) <= 3


@pytest.mark.parametrize("code", [0, 5])
def test_exit_codes_are_the_childs(fork_server, code):
    child = spawn(fork_server, code=code)
    assert child.wait(20)
    assert child.exit_code == code
    assert child.exit_description == f"with exit code {code}"


def test_signals_are_reported(fork_server):
    child = spawn(fork_server, sleep=60)
    assert child.exit_code is None
    assert not child.wait(0.05)
    child.kill()
    assert child.wait(20)
    assert child.exit_description == "by signal 9"
    child.kill()  # nobody else is hit


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_printed_comes_once_and_an_exception_with_its_traceback(alone, parts, capfd):
    sys.stdout.write("ours ")
    with closing(ForkServer(["child_modules"], fork_now=alone)) as fork_server:
        child = spawn(fork_server, **{"out": True, "raise": True})
        assert child.wait(20)
        assert child.exit_code == 1
    out, err = capfd.readouterr()
    for text in ("ours", "said on stdout", "left in the buffer"):
        assert out.count(text) == 1
    assert "ValueError: raised on purpose" in err


def test_children_live_on_without_their_fork_server(parts):
    fork_server = ForkServer(["child_modules"])
    child = spawn(fork_server, sleep=60)
    fork_server.close()
    assert not child.wait(0.2)
    child.kill()
    assert child.wait(20)


def test_a_fork_server_that_is_killed_is_replaced_and_its_children_live_on(fork_server, tmp_path):
    before = spawn(fork_server, sleep=60, write=str(tmp_path / "lives"))
    wait_until((tmp_path / "lives").exists)
    first = fork_server.pid
    os.kill(first, signal.SIGKILL)
    after = spawn(fork_server, code=3)
    assert fork_server.pid != first
    assert fork_server.crashes == [f"fork server (pid {first}) ended by signal 9"]
    assert after.wait(20)
    assert after.exit_code == 3
    assert before.exit_code is None
    before.kill()
    assert before.wait(20)


def test_one_that_is_kept_running_is_replaced_before_the_next_spawn(fork_server):
    wait_until(fork_server.ensure_running)
    os.kill(fork_server.pid, signal.SIGKILL)
    wait_until(lambda: not fork_server.ensure_running())
    assert len(fork_server.crashes) == 1
    wait_until(fork_server.ensure_running)
    child = spawn(fork_server)
    assert child.wait(20)


def test_one_that_hangs_is_killed_and_replaced(fork_server, monkeypatch):
    monkeypatch.setattr("sluice.pipeline.system.fork_server.client._REPLY_TIMEOUT_S", 0.5)
    wait_until(fork_server.ensure_running)
    os.kill(fork_server.pid, signal.SIGSTOP)
    began = time.monotonic()
    child = spawn(fork_server, code=4)
    assert time.monotonic() - began < 30
    assert child.wait(20)
    assert child.exit_code == 4
    assert len(fork_server.crashes) == 1


def test_a_child_whose_parent_is_another_already_ends_at_once(fork_server):
    """As if the engine had exited before the child could ask to end with it."""
    child = spawn(fork_server, parent=os.getppid(), sleep=60)
    assert child.wait(20)
    assert child.exit_code == 1


def test_a_request_does_not_wait_for_one_that_hangs(fork_server, monkeypatch):
    """As in a run, which goes on meanwhile: it is replaced, and asked again."""
    monkeypatch.setattr("sluice.pipeline.system.fork_server.client._REPLY_TIMEOUT_S", 0.5)
    wait_until(fork_server.ensure_running)
    os.kill(fork_server.pid, signal.SIGSTOP)
    longest_s, found = 0.0, []
    deadline = time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        began = time.monotonic()
        if fork_server.requested:
            child = fork_server.take_child()
            found += [child] if child else []
        elif fork_server.ensure_running():
            fork_server.request("child_modules", json.dumps({"code": 6}))
        longest_s = max(longest_s, time.monotonic() - began)
        time.sleep(0.005)
    (child,) = found
    assert child.wait(20)
    assert child.exit_code == 6
    assert longest_s < 0.4  # a fork of the tester, or to start an interpreter, takes a part of it
    assert len(fork_server.crashes) == 1


def test_a_request_that_is_cancelled_leaves_no_child(fork_server, ours):
    wait_until(fork_server.ensure_running)
    fork_server.request("child_modules", json.dumps({"sleep": 60}))
    fork_server.cancel()
    assert not fork_server.requested
    assert ours() == [fork_server.pid]


# A fork of the tester, which holds a gigabyte, takes a tenth of a second.
@pytest.mark.parametrize(
    "fork_server", [pytest.param("fork", marks=pytest.mark.long), "program"], indirect=True
)
def test_fifty_forks_leave_no_descriptor_and_no_process(fork_server, ours):
    assert spawn(fork_server).wait(20)
    here, its = descriptors(), psutil.Process(fork_server.pid).num_fds()
    for _ in range(50):
        assert spawn(fork_server).wait(20)
    assert descriptors() == here
    assert psutil.Process(fork_server.pid).num_fds() == its
    assert ours() == [fork_server.pid]
    assert not psutil.Process(fork_server.pid).children()


def test_grandchildren_that_outlive_their_parent_are_left_to_the_system(fork_server, ours):
    child = spawn(fork_server, sleep=0.3, orphan=True)  # once the child is started
    assert child.wait(20)
    assert child.exit_code == 0
    assert ours() == [fork_server.pid]


@pytest.mark.parametrize("max_forks", [1, 2])
def test_a_fork_that_the_system_refuses_is_reported(max_forks, parts, monkeypatch):
    """The fork server itself is the first fork; either of the two that start a child may fail."""
    left, fork = [max_forks], os.fork

    def scarce():
        left[0] -= 1
        if left[0] < 0:
            raise BlockingIOError(errno.EAGAIN, "no more processes here")
        return fork()

    monkeypatch.setattr(os, "fork", scarce)
    with closing(ForkServer(["child_modules"], fork_now=True)) as fork_server:
        with pytest.raises(RunError, match=r"cannot start child_modules.*no more processes here"):
            spawn(fork_server)
        assert not fork_server.crashes


ENGINE = """
import json, sys, time
from sluice.pipeline.system.fork_server.client import ForkServer
fork_server = ForkServer(["child_modules"], fork_now=sys.argv[1] == "fork")
child = fork_server.spawn("child_modules", json.dumps({"sleep": 60}))
print(fork_server.pid, child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["fork", "program"])
def test_the_fork_server_ends_with_its_engine_and_ignores_what_reaches_the_group(kind, parts):
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, kind], stdout=subprocess.PIPE,
                              text=True, start_new_session=True)  # fmt: skip
    with engine:
        fork_server, child = map(psutil.Process, map(int, engine.stdout.readline().split()))
        try:
            assert child.parent().pid == fork_server.parent().pid == engine.pid
            for process in (fork_server, child):
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGTERM)
            with pytest.raises(psutil.TimeoutExpired):
                fork_server.wait(0.2)
            assert child.is_running()
            engine.kill()
            fork_server.wait(10)
        finally:
            engine.kill()
            for process in (fork_server, child):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.mark.parametrize("kind", ["fork", "program"])
def test_a_fork_server_that_is_stopped_ends_with_its_engine(kind, parts):
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, kind], stdout=subprocess.PIPE,
                              text=True, start_new_session=True)  # fmt: skip
    with engine:
        fork_server, child = map(psutil.Process, map(int, engine.stdout.readline().split()))
        try:
            fork_server.suspend()
            engine.kill()
            fork_server.wait(10)
        finally:
            engine.kill()
            for process in (fork_server, child):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def wait_until(good, timeout_s=30.0):
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_command_forks_before_it_has_threads(tmp_path):
    """Native ones too, but those of BLAS and jemalloc, which know of forks and look to it."""
    script = textwrap.dedent("""
        import os, sys, threading
        from sluice.pipeline import cli
        def tell():
            tasks = [open(f"/proc/self/task/{n}/comm").read().strip()
                     for n in os.listdir("/proc/self/task")]
            native = len(tasks) - tasks.count("jemalloc_bg_thd")
            sys.stderr.write(f"FORK {native} {threading.active_count()} "
                             f"{'onnxruntime' in sys.modules}\\n")
        os.register_at_fork(before=tell)
        sys.argv = ["sluice", "replay", "none.arrows", "--graph", "hgcal"]
        cli.main()
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert "FORK 1 1 False" in done.stderr.splitlines(), done.stderr
    assert done.returncode == 3, done.stderr
