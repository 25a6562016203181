"""Model families: one subpackage each, or one behind an entry point of ``sluice.families``.

docs/howto/add-a-family.md walks through it.
"""

from .base import EvaluateOptions, Events, Family, LazyFunction, TrainOptions, get, names

__all__ = [
    "EvaluateOptions",
    "Events",
    "Family",
    "LazyFunction",
    "TrainOptions",
    "get",
    "names",
]
