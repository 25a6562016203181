"""Antihydrogen annihilations in a two-layer strip tracker: on the trap's wall or on the axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.exporters.families import EvaluateOptions, Events, Family, TrainOptions
from sluice.pipeline.batch import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("axis", "wall")


def _block(events: int, seed: int, first: int) -> Events:
    from .simulate import simulate

    return simulate(events, seed, first)


def _train(options: TrainOptions) -> dict[str, float]:
    from .training import train

    return train(options)


def _export(checkpoints: Path, root: Path) -> list[Path]:
    from .exporting import export

    return export(checkpoints, root)


def _evaluate(options: EvaluateOptions) -> dict[str, Any]:
    from .evaluating import evaluate

    return evaluate(options)


FAMILY = Family(
    name="antihydrogen",
    description=__doc__ or "",
    recipe=Path(__file__).with_name("recipe.toml"),
    schema=Schema(
        (EVENT_ID, T_EVENT, Column("truth", "uint8"), Column("strips", "uint8", (179,), "bits"))
    ),
    labels=LABELS,
    block=_block,
    train=_train,
    export=_export,
    evaluate=_evaluate,
    block_events=16_384,
)
