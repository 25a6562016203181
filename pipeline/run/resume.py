"""Resume of an interrupted run: the same configuration, the source past the last commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, DataError, ModelError
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.journal.resume_point import ResumePoint
from sluice.pipeline.sources.base import Source

from .accounting import RunAccounting

#: Tables of the graph file that decisions and recordings depend on.
_COMPARED_TABLES = ("graph", "source", "stages", "monitors", "sink")


def require_same_configuration(
    began: dict[str, Any], now: dict[str, Any], commit: CommitRecord
) -> None:
    """Refuse to resume a run with another graph, or with other models, than it had.

    Parameters
    ----------
    began, now
        Begin-of-run records: of the run, and of the graph to resume it with.
    commit
        Last commit record of the run; its models replace those that the run began with.

    Raises
    ------
    ConfigError
        If something differs; the message names it.
    """
    now = msgspec.json.decode(msgspec.json.encode(now))
    before, after = began.get("config", {}), now["config"]
    models = {stage: model | commit.models.get(stage, {})
              for stage, model in began.get("models", {}).items()}  # fmt: skip
    began = began | {"models": models}
    pairs = [(f"[{table}]", before.get(table), after.get(table)) for table in _COMPARED_TABLES]
    pairs += [(key, began.get(key), now[key]) for key in ("models", "paths", "menu")]
    differing = [name for name, one, other in pairs if one != other]
    if differing:
        raise ConfigError(
            f"cannot resume run {began.get('run')}: it began with another {', '.join(differing)}",
            hint="resume with the graph file, input and models that it began with",
        )


def replace_model(config: GraphConfig, stage: str, model: str, version: int) -> GraphConfig:
    """Return a graph file with another model in one stage."""
    changed = {"model": model, "version": version}
    stages = tuple(
        replace(part, options=part.options | changed) if part.name == stage else part
        for part in config.stages
    )
    return replace(config, stages=stages)


def graph_with_swaps(
    config: GraphConfig, point: ResumePoint, build: Callable[[GraphConfig], Graph]
) -> Graph:
    """Build the graph with the models that the run had at its last commit.

    Raises
    ------
    ModelError
        If the repository has one of them no more.
    """
    for stage, model in point.commit.models.items():
        config = replace_model(config, stage, model["name"], int(model["version"]))
    try:
        return build(config)
    except ModelError as error:
        swapped = ", ".join(
            f"{stage!r}: {model['name']}/{model['version']}"
            for stage, model in point.commit.models.items()
        )
        if not swapped:
            raise
        raise ModelError(
            f"cannot resume run {point.bor.get('run')}: it went on with other models than it "
            f"began with ({swapped}): {error.message}",
            hint="put that version back into the model repository",
        ) from error


def swap_report(point: ResumePoint) -> list[dict[str, Any]]:
    """Return the model swaps of previous attempts of a run, as entries of the report."""
    models = dict(point.bor.get("models", {}))
    found = []
    for swap in point.swaps:
        before = models.get(swap.stage, {})
        models[swap.stage] = before | swap.info()
        found.append({"epoch": swap.epoch, "stage": swap.stage, "from": before,
                      "to": models[swap.stage], "seq": swap.seq,
                      "first_event": swap.first_event})  # fmt: skip
    return found


def skip_committed(source: Source, events: int, max_events: int, accounting: RunAccounting) -> None:
    """Read past the committed events; input that is no event is counted again.

    Parameters
    ----------
    source
        Open source, at its beginning.
    events
        Number of committed events.
    max_events
        Largest batch size to read.
    accounting
        Accounting of the run.

    Raises
    ------
    DataError
        If the source has fewer events.
    """
    left = events
    while left:
        batch = source.read(min(left, max_events))
        if batch is None:
            raise DataError(
                f"cannot resume: expected the {events} events that the run had committed, "
                f"got {events - left}",
                hint="the input is not the one that the run began with",
            )
        left -= batch.events
        accounting.record_losses(source.losses(), "source")
