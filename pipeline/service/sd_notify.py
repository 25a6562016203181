"""Messages to systemd (`sd_notify(3)`): ready, status, stopping, watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from types import TracebackType

#: The main thread loads models before a run and ends processes behind it without turning its loop:
#: both have limits of their own, which together stay below this.
_PHASE_S = 240.0


class SystemdNotifier:
    """Sends the state of the daemon to systemd; does nothing if systemd did not start it.

    Parameters
    ----------
    environment
        Environment variables: NOTIFY_SOCKET is the socket of systemd, WATCHDOG_USEC the watchdog
        timeout in μs, and WATCHDOG_PID, if set, the process that the watchdog is for.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        pid, usec = (environment.get(f"WATCHDOG_{name}", "") for name in ("PID", "USEC"))
        meant = self._address and pid in ("", str(os.getpid())) and usec.isdecimal()
        #: Interval of WATCHDOG messages, s: half of systemd's timeout; 0 without a watchdog.
        self.watchdog_s = int(usec) / 2e6 if meant else 0.0

    def __enter__(self) -> SystemdNotifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._socket is not None:
            self._socket.close()

    def send(self, **values: str | int) -> None:
        """Send variables, such as ``READY=1``; without systemd nothing happens."""
        if self._socket is not None:
            message = "\n".join(f"{name}={value}" for name, value in values.items())
            with contextlib.suppress(OSError):  # an error of systemd must not end the run
                self._socket.sendto(message.encode(), self._address)


class LoopWatchdog:
    """Sends WATCHDOG=1 while a loop turns.

    Parameters
    ----------
    notifier
        Sends the messages to systemd.
    turns
        Returns a number that changes with each iteration of the main loop; None while no loop
        runs, because a run starts, ends, or is waited for.
    """

    def __init__(self, notifier: SystemdNotifier, turns: Callable[[], int | None]) -> None:
        self._notifier = notifier
        self._turns = turns
        self._last: int | None = -1  # no number of turns: the first poll sees a change
        self._changed_s = self._sent_s = float("-inf")

    def poll(self, now_s: float) -> None:
        """Send WATCHDOG=1 if it is due and the loop has turned since the last time."""
        if not self._notifier.watchdog_s or now_s - self._sent_s < self._notifier.watchdog_s:
            return
        turns = self._turns()
        if turns != self._last:
            self._last, self._changed_s = turns, now_s
        elif turns is not None or now_s - self._changed_s > _PHASE_S:
            return
        self._sent_s = now_s
        self._notifier.send(WATCHDOG=1)
