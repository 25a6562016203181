"""Progress on stderr: a bar with state, rate and latency of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import typer


@contextlib.contextmanager
def progress_bar(total: int | None, *, quiet: bool) -> Iterator[Any]:
    """Yield a function (done, text) that moves a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    # If stderr is a file, such as a daemon's log, the bar is drawn once, at the end.
    with Progress(
        *columns, console=console, disable=quiet, auto_refresh=console.is_terminal
    ) as bars:
        task = bars.add_task("", total=total)
        yield lambda done, text, all_=total: bars.update(
            task, completed=done, description=text, total=all_
        )


@contextlib.contextmanager
def run_progress(*, quiet: bool) -> Iterator[Any]:
    """Yield the progress callback of a run: state, rate, latency, address."""
    from sluice.pipeline.run.accounting import RunAccounting
    from sluice.pipeline.run.state import RunState
    from sluice.pipeline.sources.base import Source

    with progress_bar(None, quiet=quiet) as update:

        def show(control: RunState, accounting: RunAccounting, source: Source) -> None:
            now = accounting.snapshot()
            wall_s = now.seconds["wall"]
            rate = now.settled / wall_s if wall_s else 0.0
            text = (
                f"{control.state.value} {rate:,.0f} events/s, accepted {now.events['accepted']:,}, "
                f"in flight {now.in_flight}"
            )
            update(now.settled, text, source.expected)

        yield show


def print_address(address: str) -> None:
    """Print the addresses of metrics and status."""
    typer.echo(f"metrics: {address}/metrics  status: {address}/status", err=True)
