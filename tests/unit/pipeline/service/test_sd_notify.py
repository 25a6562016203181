from __future__ import annotations

import os
import socket

import pytest

from sluice.pipeline.service.sd_notify import LoopWatchdog, SystemdNotifier


@pytest.fixture(params=["file", "abstract"])
def systemd(request, tmp_path):
    """A socket as systemd has it, and its address."""
    path = str(tmp_path / "notify")
    address = path if request.param == "file" else f"@{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address.replace("@", "\0"))
        server.setblocking(False)
        yield server, address


def heard(server):
    found = []
    while True:
        try:
            found.append(server.recv(4096).decode())
        except BlockingIOError:
            return found


def test_variables_are_lines_of_one_message(systemd):
    server, address = systemd
    with SystemdNotifier({"NOTIFY_SOCKET": address}) as notifier:
        notifier.send(READY=1, STATUS="run 7")
        notifier.send(STOPPING=1)
    assert heard(server) == ["READY=1\nSTATUS=run 7", "STOPPING=1"]


def test_without_systemd_nothing_happens():
    with SystemdNotifier({}) as notifier:
        notifier.send(READY=1)
    assert notifier.watchdog_s == 0


def test_a_socket_that_is_gone_harms_nobody(tmp_path):
    with SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        notifier.send(READY=1)


@pytest.mark.parametrize(
    ("pid", "usec", "seconds"),
    [(None, "20000000", 10.0), ("own", "3000000", 1.5), (1, "3000000", 0), (None, "x", 0)],
)
def test_the_watchdog_is_for_the_process_that_systemd_means(systemd, pid, usec, seconds):
    environment = {"NOTIFY_SOCKET": systemd[1], "WATCHDOG_USEC": usec}
    own = os.getpid() if pid == "own" else pid
    environment |= {"WATCHDOG_PID": str(own)} if pid else {}
    with SystemdNotifier(environment) as notifier:
        assert notifier.watchdog_s == seconds


def test_the_watchdog_speaks_only_while_the_loop_turns(systemd):
    server, address = systemd
    turns: list[int | None] = [0]
    with SystemdNotifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}) as notifier:
        watchdog = LoopWatchdog(notifier, lambda: turns[0])
        for second in range(10):
            turns[0] = second
            watchdog.poll(float(second))
            watchdog.poll(second + 0.5)  # not due yet
        assert heard(server) == ["WATCHDOG=1"] * 10
        for second in range(10, 20):  # it hangs
            watchdog.poll(float(second))
        assert heard(server) == []
        turns[0] = 99
        watchdog.poll(20.0)
        assert heard(server) == ["WATCHDOG=1"]


def test_between_two_loops_the_watchdog_speaks_for_a_limited_time(systemd):
    server, address = systemd
    with SystemdNotifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}) as notifier:
        watchdog = LoopWatchdog(notifier, lambda: None)
        watchdog.poll(0.0)
        watchdog.poll(200.0)
        assert heard(server) == ["WATCHDOG=1"] * 2
        watchdog.poll(300.0)
        assert heard(server) == []
