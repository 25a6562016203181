"""The folder of a run: gone with the run, also with one that was killed; private to its user."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.system import run_directory as module
from sluice.pipeline.system.run_directory import run_directory, runtime_folder

_RUN = """
import sys, time
from sluice.pipeline.system.run_directory import run_directory
with run_directory() as folder:
    (folder / "slots").write_bytes(b"0")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    """A folder of the test's own, with a path that is short enough for sockets."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("SLUICE_RUNTIME", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shared_memory(runtime, monkeypatch):
    """A stand-in for ``/dev/shm``: a FIFO in the real one would stop other runs of the host."""
    folder = runtime / "shm"
    folder.mkdir()
    monkeypatch.setattr(module, "_SHARED_MEMORY", folder)
    return folder


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
        (folder / "ingest").touch()
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


def test_a_fifo_and_links_that_look_like_a_lock_are_left_alone(runtime, tmp_path):
    """None of them is waited for, followed or removed."""
    for name in ("run-fifo", "run-link", "run-folder"):
        (runtime / name).mkdir()
    os.mkfifo(runtime / "run-fifo" / "lock")
    (tmp_path / "file").touch()
    (runtime / "run-link" / "lock").symlink_to(tmp_path / "file")
    (runtime / "run-folder" / "lock").mkdir()
    (tmp_path / "lock").touch()
    (runtime / "run-elsewhere").symlink_to(tmp_path)
    with run_directory() as folder:
        assert folder.parent == runtime
        left = {path.name for path in runtime.iterdir()} - {folder.name}
    assert left == {"run-fifo", "run-link", "run-folder", "run-elsewhere"}
    assert (tmp_path / "file").exists()
    assert (tmp_path / "lock").exists()


def test_a_fifo_in_shared_memory_does_not_stop_a_run(shared_memory, monkeypatch):
    """The folder of this user is looked into, none that others can make."""
    monkeypatch.delenv("SLUICE_RUNTIME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    foreign = shared_memory / "sluice-planted"
    foreign.mkdir()
    os.mkfifo(foreign / "lock")
    with run_directory() as folder:
        assert folder.parent == shared_memory / f"sluice-{os.geteuid()}"
        assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_where_there_is_no_shared_memory_files_are_temporary(shared_memory, monkeypatch):
    """As in a container that has none."""
    monkeypatch.delenv("SLUICE_RUNTIME")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(module, "_SHARED_MEMORY", shared_memory / "missing")
    monkeypatch.setattr(tempfile, "tempdir", str(shared_memory))
    assert runtime_folder() == shared_memory / f"sluice-{os.geteuid()}"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o750, 0o701])
def test_a_folder_that_others_may_use_is_refused(runtime, mode):
    """Whoever can write there can plant things."""
    runtime.chmod(mode)
    with (
        pytest.raises(ConfigError, match=rf"expected mode 0700, got {mode:04o}"),
        run_directory(),
    ):
        pass
    runtime.chmod(0o700)


def test_a_folder_of_another_user_is_refused(runtime, monkeypatch):
    """Also one with a mode that is right."""
    monkeypatch.setattr(os, "geteuid", lambda: runtime.stat().st_uid + 1)
    with pytest.raises(ConfigError, match=r"expected a folder of user \d+, got one of user"):
        runtime_folder()


def test_links_and_files_in_its_place_are_refused(runtime, monkeypatch):
    """A link may lead to a folder of this user, but who made the link decides where."""
    (runtime / "real").mkdir(mode=0o700)
    (runtime / "link").symlink_to(runtime / "real")
    (runtime / "file").touch()
    for name in ("link", "file", "file/folder"):
        monkeypatch.setenv("SLUICE_RUNTIME", str(runtime / name))
        with pytest.raises(ConfigError, match=f"{name}: .*folder") as refused:
            runtime_folder()
        assert "SLUICE_RUNTIME" in (refused.value.hint or "")


def test_a_path_that_is_too_long_for_a_socket_is_refused(runtime, monkeypatch):
    """The longest that is accepted holds a socket with the longest name."""
    longest = 107 - len("/run-12345678/") - 16 - len(str(runtime)) - 1
    monkeypatch.setenv("SLUICE_RUNTIME", str(runtime / ("a" * longest)))
    with run_directory() as folder, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / ("s" * 16)))
    monkeypatch.setenv("SLUICE_RUNTIME", str(runtime / ("a" * (longest + 1))))
    with pytest.raises(ConfigError, match="1 bytes too long for Unix sockets"), run_directory():
        pass


def test_the_session_folder_is_taken_if_it_is_private(runtime, shared_memory, monkeypatch):
    """That of another user, as after ``sudo``, is passed over."""
    monkeypatch.delenv("SLUICE_RUNTIME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert runtime_folder() == runtime / "sluice"
    otherwise = shared_memory / f"sluice-{os.geteuid()}"
    for unusable in (str(runtime / "missing"), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", unusable)
        assert runtime_folder() == otherwise
    runtime.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert runtime_folder() == otherwise
    runtime.chmod(0o700)
