"""Large-radius jets: a boosted resonance against QCD, without sculpting the jet mass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.exporters.families import EvaluateOptions, Events, Family, TrainOptions
from sluice.pipeline.batch import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("qcd", "resonance")
#: Jets of a block: a chunk of each class.
BLOCK = 5_000


def _block(events: int, seed: int, first: int) -> Events:
    from .events import block

    return block(events, seed, first)


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
    name="jets",
    description=__doc__ or "",
    recipe=Path(__file__).with_name("recipe.toml"),
    schema=Schema(
        (
            EVENT_ID,
            T_EVENT,
            Column("truth", "uint8"),
            Column("resonance", "float32", unit="GeV"),
            Column("pt", "float32", (None,), "GeV"),
            Column("eta", "float32", (None,)),
            Column("phi", "float32", (None,)),
        )
    ),
    labels=LABELS,
    block=_block,
    train=_train,
    export=_export,
    evaluate=_evaluate,
    block_events=BLOCK,
    processes=2,
    packages=("awkward", "fastjet", "pythia8mc"),
)
