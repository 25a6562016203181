"""Simulated events in memory, for the online half's front-end emulator."""

from __future__ import annotations

from sluice.pipeline.batch import EventBatch, concatenate
from sluice.pipeline.schema import Schema

from .families import get


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
