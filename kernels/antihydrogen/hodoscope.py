"""The bars of a two-ring hodoscope: counts of their clocks on the wire to the inputs of a net.

32 scintillator bars a ring, the inner ring first, counted by angle. A bar's count is the time at
which it fired, in steps of 0.1 ns from the start of the readout; 0 if it did not fire.
"""

import numpy as np
from numpy.typing import NDArray

RINGS, AROUND = 2, 32
BARS = RINGS * AROUND
STEP_NS = 0.1
#: Largest time after the first bar, ns; later bars count as this late.
LATEST_NS = 10.0


def time_since_first_hit(counts: NDArray[np.uint16], seen: NDArray[np.float32]) -> None:
    """Compute which bars have fired, and the time of each since the first one.

    Parameters
    ----------
    counts : uint16 array, shape (N, 64)
        Times of the bars in steps of `STEP_NS`; 0 where a bar has not fired.
    seen : float32 array, shape (N, 2, 64)
        Output: 0 or 1; and ns after the event's first bar, 0 where none has fired.
    """
    fired = counts > 0
    first = np.where(fired, counts, np.iinfo(np.uint16).max).min(axis=1, keepdims=True)
    seen[:, 0] = fired
    late = np.subtract(counts, first, dtype=np.float32, casting="unsafe") * np.float32(STEP_NS)
    seen[:, 1] = np.where(fired, np.minimum(late, np.float32(LATEST_NS)), 0)
