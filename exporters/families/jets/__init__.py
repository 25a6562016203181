"""Large-radius jets: a boosted resonance against QCD, without sculpting the jet mass."""

from __future__ import annotations

from pathlib import Path

from sluice.exporters.families.base import Family, LazyFunction
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Column, Schema

LABELS = ("qcd", "resonance")
#: Jets of a block: a chunk of each class.
BLOCK = 5_000


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
    block=LazyFunction(__name__, "simulation.events.block"),
    train=LazyFunction(__name__, "train.train"),
    export=LazyFunction(__name__, "export.export"),
    evaluate=LazyFunction(__name__, "evaluate.evaluate"),
    block_events=BLOCK,
    processes=2,
    packages=("awkward", "fastjet", "pythia8mc"),
)
