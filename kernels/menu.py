"""The trigger menu's passes over events: collect the paths that fired, then settle the outcome."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.jit import kernel, reads, value, writes

_ACCEPTED, _REJECTED, _PRESCALED = 1, 2, 3


@kernel((reads("b1", 1), reads("b1", 1), value("i8"), writes("b1", 1), writes("u8", 1)))
def fire(
    passed: NDArray[np.bool_],
    unscaled: NDArray[np.bool_],
    bit: int,
    fired: NDArray[np.bool_],
    decision: NDArray[np.uint64],
) -> None:
    """Add one path to the decision.

    Parameters
    ----------
    passed : bool array, shape (N,)
        Events that fulfil the path's condition.
    unscaled : bool array, shape (N,)
        Events that its prescale lets through.
    bit : int
        The path's bit, 0 to 63.
    fired : bool array, shape (N,)
        Set where the condition is fulfilled, whatever the prescale says.
    decision : uint64 array, shape (N,)
        The bit is set where the condition is fulfilled and the prescale lets the event through.

    Raises
    ------
    ValueError
        If the arrays differ in length.
    """
    events = passed.size
    if unscaled.size != events or fired.size != events or decision.size != events:
        raise ValueError("fire: expected arrays of one length")
    shift = np.uint64(bit)
    for i in range(events):
        fired[i] |= passed[i]
        decision[i] |= np.uint64(passed[i] & unscaled[i]) << shift


@kernel((reads("b1", 1), reads("u1", 1), writes("u8", 1), writes("u1", 1)))
def settle(
    fired: NDArray[np.bool_],
    before: NDArray[np.uint8],
    decision: NDArray[np.uint64],
    outcome: NDArray[np.uint8],
) -> None:
    """Turn decisions into outcomes.

    Parameters
    ----------
    fired : bool array, shape (N,)
        Events of which some path's condition is fulfilled.
    before : uint8 array, shape (N,)
        Outcomes from before the menu; an event that is not open (0) stays what it is.
    decision : uint64 array, shape (N,)
        Path bits; cleared for events that were not open.
    outcome : uint8 array, shape (N,)
        Set to accepted (1) where a bit is set, else prescaled (3) where a condition was
        fulfilled, else rejected (2).

    Raises
    ------
    ValueError
        If the arrays differ in length.
    """
    events = fired.size
    if before.size != events or decision.size != events or outcome.size != events:
        raise ValueError("settle: expected arrays of one length")
    for i in range(events):
        if before[i] != 0:
            outcome[i] = before[i]
            decision[i] = 0
        elif decision[i] != 0:
            outcome[i] = _ACCEPTED
        else:
            outcome[i] = _PRESCALED if fired[i] else _REJECTED
