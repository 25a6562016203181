"""Antihydrogen annihilations in a two-layer strip tracker: on the trap's wall or on the axis."""

from __future__ import annotations

from pathlib import Path

from sluice.exporters.families.base import Family, LazyFunction
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("axis", "wall")


FAMILY = Family(
    name="antihydrogen",
    description=__doc__ or "",
    recipe=Path(__file__).with_name("recipe.toml"),
    schema=Schema(
        (EVENT_ID, T_EVENT, Column("truth", "uint8"), Column("strips", "uint8", (179,), "bits"))
    ),
    labels=LABELS,
    block=LazyFunction(__name__, "simulate.simulate"),
    train=LazyFunction(__name__, "train.train"),
    export=LazyFunction(__name__, "export.export"),
    evaluate=LazyFunction(__name__, "evaluate.evaluate"),
    block_events=16_384,
)
