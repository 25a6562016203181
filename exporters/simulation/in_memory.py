"""Simulated events in memory, for the online half's front-end emulator."""

from __future__ import annotations

from sluice.exporters.families.base import get
from sluice.pipeline.core.batch import EventBatch, concatenate
from sluice.pipeline.core.schema import Schema


def sample(family: str, events: int, seed: int) -> tuple[EventBatch, Schema]:
    """Return `events` simulated events of a family and their columns.

    Raises
    ------
    ConfigError
        If there is no such family.
    """
    chosen = get(family)
    blocks = [
        EventBatch(chosen.block(count, seed, first), count) for count, first in chosen.spans(events)
    ]
    return concatenate(blocks), Schema(chosen.schema)
