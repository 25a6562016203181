"""Signals that ask a process to end: SIGTERM, SIGINT, and SIGHUP when its terminal is closed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def on_end_signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with the number of each signal to end that comes within the context.

    A signal that is ignored, as SIGHUP under ``nohup``, stays ignored. To be entered from the main
    thread.
    """
    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    handled = [number for number in END_SIGNALS if before[number] != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, lambda found, _: handle(found))
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
