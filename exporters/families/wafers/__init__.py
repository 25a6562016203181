"""Single wafers of 48 trigger cells: encoder, decoder, EMD surrogate, tagger."""

from __future__ import annotations

from pathlib import Path

from sluice.exporters.families.base import Family, LazyFunction
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("electromagnetic", "hadronic", "pileup")


FAMILY = Family(
    name="wafers",
    description=__doc__ or "",
    recipe=Path(__file__).with_name("recipe.toml"),
    schema=Schema((EVENT_ID, T_EVENT, Column("truth", "uint8"), Column("words", "uint32", (12,)))),
    labels=LABELS,
    block=LazyFunction(__name__, "simulation.wafers.simulate"),
    train=LazyFunction(__name__, "train.train"),
    export=LazyFunction(__name__, "export.export"),
    evaluate=LazyFunction(__name__, "evaluate.evaluate"),
    packages=("ot",),
)
