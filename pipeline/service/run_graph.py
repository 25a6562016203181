"""One run of a graph in this process, from its start to its report."""

from __future__ import annotations

from typing import Any

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.system.fork_server.client import ForkServer

from .daemon import Announce, Daemon, Progress
from .session import RunOptions

#: Classes of events that have no decision.
_UNDECIDED = ("failed", "invalid", "lost", "shed")


def run_graph(
    config: GraphConfig,
    options: RunOptions,
    progress: Progress | None = None,
    announce: Announce | None = None,
    fork_server: ForkServer | None = None,
) -> dict[str, Any]:
    """Execute one run and return its report; SIGTERM and SIGINT drain and end it.

    Parameters
    ----------
    config
        Graph, with the source and sink of the run.
    options
        Options of the run, from the command line.
    progress, announce, fork_server
        Callback during the run, callback with the HTTP address, and fork server, as in `Daemon`.

    Returns
    -------
    dict
        The report; ``error`` in it names the first cause if the run ended in ERROR.

    Raises
    ------
    SluiceError
        If the run could not start.
    """
    return Daemon(lambda: config, options, progress, announce, fork_server).run_once()


def raise_unless_clean(report: dict[str, Any]) -> None:
    """Raise RunError unless a run to be measured has decided every event: others cost less time.

    Raises
    ------
    RunError
        If the run ended in ERROR, its ledger is not closed, or it has events without decision.
    """
    raise_on_error(report)
    undecided = {key: report["events"][key] for key in _UNDECIDED if report["events"][key]}
    if undecided or not report["closed"]:
        found = ", ".join(f"{number} {key}" for key, number in undecided.items())
        raise RunError(
            f"graph {report['graph']}: measurement: expected every event decided, got "
            f"{found or 'a ledger that is not closed'} of {report['events']['offered']}",
            "measure on events that the graph can process",
        )


def raise_on_error(report: dict[str, Any]) -> None:
    """Raise RunError if the run ended in ERROR."""
    if report["error"]:
        raise RunError(report["error"], report["hint"])
