"""Trainings side by side, each on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import torch

from sluice.exporters.processes import side_by_side

Scores = dict[str, float]
#: A function and its arguments after the run.
Task = tuple[Callable[..., Scores], tuple[object, ...]]


@contextmanager
def workers(count: int) -> Iterator[Executor | None]:
    """Yield a pool of processes; none if one is enough."""
    # Kept, because each makes its own sample.
    if count == 1:
        yield None
        return
    with side_by_side(count, _one_core) as pool:
        yield pool


def together(run: object, tasks: Iterable[Task], pool: Executor | None) -> Scores:
    """Run tasks, each with `run` first; return all their scores."""
    if pool is None:
        found: Iterable[Scores] = (function(run, *arguments) for function, arguments in tasks)
    else:
        waiting = [pool.submit(function, run, *arguments) for function, arguments in tasks]
        found = (one.result() for one in waiting)
    return {name: loss for scores in found for name, loss in scores.items()}


def _one_core() -> None:
    torch.set_num_threads(1)
