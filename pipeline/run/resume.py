"""Going on with a run that was killed: the same graph, and its source past what was committed."""

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

#: Tables of the graph file on which decisions and recordings depend.
_DECISIVE = ("graph", "source", "stages", "monitors", "sink")


def require_same_configuration(
    began: dict[str, Any], now: dict[str, Any], commit: CommitRecord
) -> None:
    """Refuse to go on with another graph, or other models, than the run had.

    Parameters
    ----------
    began, now
        Begin-of-run records: the run's, and one of the graph to go on with.
    commit
        The last one; models that were swapped by then are those to go on with.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    now = msgspec.json.decode(msgspec.json.encode(now))
    before, after = began.get("config", {}), now["config"]
    models = {stage: model | commit.models.get(stage, {})
              for stage, model in began.get("models", {}).items()}  # fmt: skip
    began = began | {"models": models}
    pairs = [(f"[{table}]", before.get(table), after.get(table)) for table in _DECISIVE]
    pairs += [(key, began.get(key), now[key]) for key in ("models", "paths", "menu")]
    differing = [name for name, one, other in pairs if one != other]
    if differing:
        raise ConfigError(
            f"cannot resume run {began.get('run')}: it began with another {', '.join(differing)}",
            hint="resume with the graph file, input and models that it began with",
        )


def replace_model(config: GraphConfig, stage: str, model: str, version: int) -> GraphConfig:
    """Return the graph file with another model in a stage."""
    changed = {"model": model, "version": version}
    stages = tuple(
        replace(part, options=part.options | changed) if part.name == stage else part
        for part in config.stages
    )
    return replace(config, stages=stages)


def graph_with_swaps(
    config: GraphConfig, standing: ResumePoint, build: Callable[[GraphConfig], Graph]
) -> Graph:
    """Return the graph with the models that the run had at its last commit.

    Raises
    ------
    ModelError
        If one of them is gone.
    """
    for stage, model in standing.commit.models.items():
        config = replace_model(config, stage, model["name"], int(model["version"]))
    try:
        return build(config)
    except ModelError as error:
        swapped = ", ".join(
            f"{stage!r}: {model['name']}/{model['version']}"
            for stage, model in standing.commit.models.items()
        )
        if not swapped:
            raise
        raise ModelError(
            f"cannot resume run {standing.bor.get('run')}: it went on with other models than it "
            f"began with ({swapped}): {error.message}",
            hint="put that version back into the model repository",
        ) from error


def swap_report(standing: ResumePoint) -> list[dict[str, Any]]:
    """Return the swaps of the earlier lives of a run, as the report lists them."""
    models = dict(standing.bor.get("models", {}))
    found = []
    for swap in standing.swaps:
        before = models.get(swap.stage, {})
        models[swap.stage] = before | swap.info()
        found.append({"epoch": swap.epoch, "stage": swap.stage, "from": before,
                      "to": models[swap.stage], "seq": swap.seq,
                      "first_event": swap.first_event})  # fmt: skip
    return found


def skip_committed(source: Source, events: int, most: int, account: RunAccounting) -> None:
    """Read past the events that were committed; what is no event is counted once more.

    Raises
    ------
    DataError
        If the source has fewer.
    """
    left = events
    while left:
        batch = source.read(min(left, most))
        if batch is None:
            raise DataError(
                f"cannot resume: expected the {events} events that the run had judged, "
                f"got {events - left}",
                hint="the input is not what it was",
            )
        left -= batch.events
        account.record_losses(source.losses(), "source")
