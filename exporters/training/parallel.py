"""Trainings side by side, each on one core."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context

from rich.console import Console
from rich.progress import Progress

from sluice.pipeline.system.parent import end_with_parent

Scores = dict[str, float]
#: A function and its arguments after the run.
Task = tuple[Callable[..., Scores], tuple[object, ...]]


@contextmanager
def worker_count(count: int) -> Iterator[Executor | None]:
    """Yield a pool of processes; none if one is enough."""
    # Kept, because each makes its own sample.
    if count == 1:
        yield None
        return
    with process_pool(count, _one_core) as pool:
        yield pool


def run_all(run: object, tasks: Iterable[Task], pool: Executor | None) -> Scores:
    """Run tasks, each with `run` first; return all their scores."""
    if pool is None:
        found: Iterable[Scores] = (function(run, *arguments) for function, arguments in tasks)
    else:
        waiting = [pool.submit(function, run, *arguments) for function, arguments in tasks]
        found = (one.result() for one in waiting)
    return {name: loss for scores in found for name, loss in scores.items()}


def _one_core() -> None:
    import torch  # not for simulations, which use these processes too and need no training

    torch.set_num_threads(1)


@contextmanager
def process_pool(
    count: int, prepare: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; an exception in the block kills them.

    Parameters
    ----------
    count
        Number of processes.
    prepare
        Function that each process calls first.
    """
    # Spawned, not forked: neither torch nor a compiled kernel's threads survive a fork.
    others = set(active_children())
    given = (os.getpid(), prepare)
    with ProcessPoolExecutor(count, get_context("spawn"), _begin, given) as pool:
        try:
            yield pool
        except BaseException:
            # Else leaving waits for tasks that take hours.
            for child in set(active_children()) - others:
                child.kill()
            raise


def _begin(parent: int, prepare: Callable[[], None] | None) -> None:
    # An interrupt from a terminal reaches all; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    if prepare is not None:
        prepare()


def progress() -> Progress:
    """Return a bar on standard error that leaves nothing behind."""
    shown = sys.stderr.isatty()
    return Progress(console=Console(stderr=True), transient=True, disable=not shown)
