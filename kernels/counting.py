"""Counters of outcomes and of trigger paths."""

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import input_array, kernel, output_array, scalar

OUTCOMES = 8
"""Length of a counter of outcomes."""
PATHS = 64
"""Length of a counter of trigger paths: the bits of a decision."""
OPEN, ACCEPTED = 0, 1
"""Outcomes of an event without a decision, and of an accepted one; as the pipeline numbers them."""
_BLOCK = 128


@kernel((input_array("u1", 1), output_array("i8", 1)), hold_gil=True)
def count_outcomes(outcome: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Add the number of events of each outcome.

    Parameters
    ----------
    outcome : uint8 array, shape (N,)
        Outcome of each event, 0 to 7.
    counts : int64 array, shape (8,)
        Added to.

    Raises
    ------
    ValueError
        If `counts` has another length, or an outcome is 8 or more; nothing is counted then.
    """
    if counts.size != OUTCOMES:
        raise ValueError("count_outcomes: expected counts (8,)")
    # One pass a kind is vectorised, and in bytes as long as no count can be more than a byte's.
    blocks = outcome[: outcome.size // _BLOCK * _BLOCK].reshape(outcome.size // _BLOCK, _BLOCK)
    found = np.empty(OUTCOMES, np.int64)
    for kind in range(OUTCOMES):
        these = 0
        for block in range(len(blocks)):
            few = np.uint8(0)
            for i in range(_BLOCK):
                few = np.uint8(few + np.uint8(blocks[block, i] == kind))
            these += int(few)
        for i in range(blocks.size, outcome.size):
            these += outcome[i] == kind
        found[kind] = these
    if found.sum() != outcome.size:
        raise ValueError("count_outcomes: an outcome is 8 or more")
    counts += found


@kernel((input_array("u8", 1), output_array("i8", 1)), hold_gil=True)
def count_bits(decision: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """Add the number of events that have each bit of the decision set.

    Parameters
    ----------
    decision : uint64 array, shape (N,)
        Path bits of each event.
    counts : int64 array, shape (64,)
        Added to.

    Raises
    ------
    ValueError
        If `counts` has another length.
    """
    if counts.size != PATHS:
        raise ValueError("count_bits: expected counts (64,)")
    used = np.uint64(0)
    for i in range(decision.size):
        used |= decision[i]
    # A menu uses a few bits; one vectorised pass for each beats walking the bits of every event.
    for bit in range(PATHS):
        mask = np.uint64(1) << np.uint64(bit)
        if used & mask:
            found = 0
            for i in range(decision.size):
                found += (decision[i] & mask) != 0
            counts[bit] += found


@kernel((input_array("u1", 1), scalar("u1"), output_array("i8", 1)), hold_gil=True)
def matching_rows(outcome: NDArray[np.uint8], wanted: int, rows: NDArray[np.int64]) -> int:
    """Find the events of one outcome.

    Parameters
    ----------
    outcome : uint8 array, shape (N,)
        Outcome of each event.
    wanted : int
        The outcome looked for.
    rows : int64 array, shape (N,)
        Output: their row numbers, ascending, at its start.

    Returns
    -------
    int
        Number of rows found.

    Raises
    ------
    ValueError
        If `rows` is shorter than `outcome`.
    """
    if rows.size < outcome.size:
        raise ValueError("matching_rows: expected outcome (N,) and rows (N,)")
    found = 0
    for i in range(outcome.size):
        rows[found] = i
        found += outcome[i] == wanted
    return found


@kernel((input_array("u8", 1), input_array("u8", 1), output_array("i8", 2)), hold_gil=True)
def count_overlap(
    decision: NDArray[np.uint64], other: NDArray[np.uint64], counts: NDArray[np.int64]
) -> None:
    """Add the number of events of each path that both decisions have, or only one of them.

    Parameters
    ----------
    decision, other : uint64 arrays, shape (N,)
        Path bits of each event by two decisions.
    counts : int64 array, shape (64, 3)
        Added to: both, only `decision`, only `other`.

    Raises
    ------
    ValueError
        If the lengths differ or `counts` has another shape.
    """
    if other.size != decision.size or counts.shape != (PATHS, 3):
        raise ValueError("count_overlap: expected equal lengths and counts (64, 3)")
    for i in range(decision.size):
        either = decision[i] | other[i]
        bit = 0
        while either:
            if either & np.uint64(1):
                mine = (decision[i] >> np.uint64(bit)) & np.uint64(1)
                theirs = (other[i] >> np.uint64(bit)) & np.uint64(1)
                counts[bit, 0 if mine and theirs else (1 if mine else 2)] += 1
            either >>= np.uint64(1)
            bit += 1


@kernel((input_array("u1", 1), output_array("u1", 1)), hold_gil=True)
def accept_open(outcome: NDArray[np.uint8], accepted: NDArray[np.uint8]) -> None:
    """Accept the events without a decision.

    Parameters
    ----------
    outcome : uint8 array, shape (N,)
        Outcome of each event.
    accepted : uint8 array, shape (N,)
        Output: ACCEPTED where `outcome` is OPEN, else `outcome`.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if accepted.size != outcome.size:
        raise ValueError("accept_open: expected equal lengths")
    for i in range(outcome.size):
        accepted[i] = ACCEPTED if outcome[i] == OPEN else outcome[i]
