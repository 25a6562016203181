"""Single wafers of 48 trigger cells: encoder, decoder, EMD surrogate, tagger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice.exporters.families import EvaluateOptions, Events, Family, TrainOptions
from sluice.pipeline.batch import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("electromagnetic", "hadronic", "pileup")


def _blocks(events: int, seed: int) -> Iterator[Events]:
    from .simulate import blocks

    return blocks(events, seed)


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
    name="wafers",
    description=__doc__ or "",
    recipe=Path(__file__).with_name("recipe.toml"),
    schema=Schema((EVENT_ID, T_EVENT, Column("truth", "uint8"), Column("words", "uint32", (12,)))),
    labels=LABELS,
    blocks=_blocks,
    train=_train,
    export=_export,
    evaluate=_evaluate,
)
