"""Large-radius jets: from ragged candidates to substructure observables."""

from .observables import (
    NEGATIVE,
    NOT_FINITE,
    OBSERVABLES,
    SOUND,
    leading_jets,
    measure_substructure,
    substructure,
)

__all__ = [
    "NEGATIVE",
    "NOT_FINITE",
    "OBSERVABLES",
    "SOUND",
    "leading_jets",
    "measure_substructure",
    "substructure",
]
