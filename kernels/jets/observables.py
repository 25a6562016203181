"""Large-radius jets: from ragged candidates to substructure observables.

Two passes over a batch: `leading_jets` finds and trims, `substructure` measures. `observe` is both.
"""

import numpy as np
from numpy.typing import NDArray

from .clustering import NEGATIVE, NOT_FINITE, SOUND, leading_jets
from .substructure import substructure

__all__ = ["NEGATIVE", "NOT_FINITE", "OBSERVABLES", "SOUND", "leading_jets", "measure_substructure",
           "substructure"]  # fmt: skip

#: Names of the columns that `substructure` writes, in order.
OBSERVABLES = (
    "tau21", "c2", "d2", "angularity", "aplanarity",
    "fox_wolfram_20", "kt_dr", "planar_flow", "split12", "zcut12",
)  # fmt: skip

#: Anti-kt radius; for trimming, radius of the subjets and smallest share of transverse momentum.
RADIUS, SUBJET, SHARE = 1.0, 0.2, 0.05


def measure_substructure(
    offsets: NDArray[np.int64],
    pt: NDArray[np.float32],
    eta: NDArray[np.float32],
    phi: NDArray[np.float32],
    observables: NDArray[np.float32],
    kinematics: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> None:
    """Find, trim and measure the hardest jet of each event.

    Parameters
    ----------
    offsets, pt, eta, phi
        Candidates, as for `leading_jets`.
    observables, kinematics
        Outputs, as for `substructure`.
    status
        Output, as for `leading_jets`.
    """
    events = len(offsets) - 1
    kept_offsets = np.empty(events + 1, np.int64)
    kept, summary = np.empty((4, len(pt))), np.empty((events, 12))
    leading_jets(offsets, pt, eta, phi, RADIUS, SUBJET, SHARE, kept_offsets, kept, summary, status)
    substructure(kept_offsets, kept, summary, RADIUS, observables, kinematics)
