"""Stages of a graph that run a model, and their backends."""

from __future__ import annotations

from sluice.pipeline.config.graph_file import GraphConfig, override_backends
from sluice.pipeline.config.plugins import build
from sluice.pipeline.core.errors import ConfigError
from sluice.pipeline.stages.capabilities import RunsModel


def model_stages(config: GraphConfig) -> dict[str, RunsModel]:
    """Return the stages that run a model, built but not opened, by name."""
    built = {stage.name: build("stage", stage, config.origin) for stage in config.stages}
    return {name: stage for name, stage in built.items() if isinstance(stage, RunsModel)}


def override_backend(config: GraphConfig, backend: str) -> GraphConfig:
    """Return the graph with the models of all its stages on one backend.

    Raises
    ------
    ConfigError
        If no stage runs a model, or one of them cannot run its model on this backend.
    """
    stages = model_stages(config)
    if not stages:
        raise ConfigError(
            f"backend {backend!r}: expected a stage that runs a model, {config.origin} has none"
        )
    runtime = backend.partition(":")[0]
    for name, stage in stages.items():
        if stage.backends() and runtime not in stage.backends():
            raise ConfigError(
                f"{config.origin}: stage {name!r}: expected backend "
                f"{' or '.join(map(repr, stage.backends()))}, got {backend!r}"
            )
    return override_backends(config, dict.fromkeys(stages, backend))
