"""The trigger menu: from conditions and prescales of all paths to decision and outcome."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import input_array, kernel, output_array

_ACCEPTED, _REJECTED = 1, 2


@kernel(
    (
        input_array("b1", 2),
        input_array("b1", 2),
        input_array("u8", 1),
        input_array("u1", 1),
        output_array("u8", 1),
        output_array("u1", 1),
    ),
    hold_gil=True,
)
def decide(
    passed: NDArray[np.bool_],
    unscaled: NDArray[np.bool_],
    bit: NDArray[np.uint64],
    before: NDArray[np.uint8],
    decision: NDArray[np.uint64],
    outcome: NDArray[np.uint8],
) -> None:
    """Decide on N events by P paths.

    Parameters
    ----------
    passed : bool array, shape (P, N)
        Whether an event fulfils a path's condition.
    unscaled : bool array, shape (P, N)
        Whether the path's prescale lets the event through.
    bit : uint64 array, shape (P,)
        Each path's bit of the decision, 0 to 63.
    before : uint8 array, shape (N,)
        Outcomes from before the menu; an event that is not open (0) stays what it is.
    decision : uint64 array, shape (N,)
        Output: the bits of the paths that the event passed and whose prescale let it through; 0
        for events that were not open.
    outcome : uint8 array, shape (N,)
        Output: accepted (1) where a bit is set, else prescaled (3) where a condition is
        fulfilled, else rejected (2).

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    paths, events = passed.shape
    if unscaled.shape != passed.shape or bit.size != paths:
        raise ValueError("decide: expected passed (P, N), unscaled (P, N) and bit (P,)")
    if before.size != events or decision.size != events or outcome.size != events:
        raise ValueError("decide: expected before, decision and outcome (N,)")
    decision[:] = 0
    outcome[:] = _REJECTED
    for path in range(paths):  # whole passes, so that each is vectorised
        for i in range(events):
            kept = np.uint64(passed[path, i] & unscaled[path, i])
            decision[i] |= kept << bit[path]
            outcome[i] |= passed[path, i]  # rejected (2) becomes prescaled (3)
    for i in range(events):
        if decision[i] != 0:
            outcome[i] = _ACCEPTED
        if before[i] != 0:
            outcome[i] = before[i]
            decision[i] = 0


@kernel((input_array("u8", 1), input_array("f4", 1), output_array("f4", 1)), hold_gil=True)
def smallest_prescale(
    decision: NDArray[np.uint64], prescale: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Find the smallest prescale among the paths that kept an event.

    Parameters
    ----------
    decision : uint64 array, shape (N,)
        Path bits of each event.
    prescale : float32 array, shape (64,)
        Prescale of each bit's path: one event in this many is kept.
    out : float32 array, shape (N,)
        Output: the smallest prescale of the bits that are set, 0 where none is.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if prescale.size != 64 or out.size != decision.size:
        raise ValueError("smallest_prescale: expected decision (N,), prescale (64,) and out (N,)")
    for i in range(decision.size):
        bits = decision[i]
        smallest = np.float32(np.inf if bits else 0)
        for bit in range(64):
            if bits >> np.uint64(bit) == 0:
                break
            if (bits >> np.uint64(bit)) & np.uint64(1):
                smallest = min(smallest, prescale[bit])
        out[i] = smallest
