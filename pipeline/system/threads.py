"""Check that a process can start threads, for libraries that abort the process if they cannot."""

from __future__ import annotations

import threading

from sluice.pipeline.core.errors import RunError


def require_threads(number: int) -> None:
    """Start some threads that end at once.

    Raises
    ------
    RunError
        If a thread cannot be started; the hint names the limit.
    """
    go_on, started = threading.Event(), []
    try:
        for _ in range(number):
            thread = threading.Thread(target=go_on.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise RunError.of(error) from error
    finally:
        go_on.set()
        for thread in started:
            thread.join()
