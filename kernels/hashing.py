"""Reproducible sampling: the same events are chosen in every worker, replay and year."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from sluice.kernels.compiler.jit import device_function, input_array, kernel, output_array, scalar

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@device_function
def _mix(state: np.uint64) -> np.uint64:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def salt(name: str) -> int:
    """Return the 64-bit salt of a name, such as that of a trigger path.

    Examples
    --------
    >>> salt("egamma") == salt("egamma") != salt("jets")
    True
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


@kernel((input_array("u8", 1), scalar("u8"), output_array("u8", 1)), hold_gil=True)
def splitmix64(
    event_id: NDArray[np.uint64], salt: np.uint64 | int, out: NDArray[np.uint64]
) -> None:
    """Hash event numbers into uniform 64-bit numbers.

    With salt 0 an event number gives the first output of SplitMix64 seeded with it.

    Parameters
    ----------
    event_id : uint64 array, shape (N,)
    salt : int
        Any 64-bit number, such as `salt` of a name; hashes of different salts are independent.
    out : uint64 array, shape (N,)
        Output.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA
    2014.
    """
    if out.size != event_id.size:
        raise ValueError("splitmix64: expected event_id (N,) and out (N,)")
    # The salt is mixed first: neighbouring salts would otherwise only shift the sequence by one
    # event.
    offset = _mix(np.uint64(salt)) + _GAMMA
    for i in range(event_id.size):
        out[i] = _mix(event_id[i] + offset)


@kernel((input_array("u8", 1), scalar("u8"), scalar("f8"), output_array("b1", 1)), hold_gil=True)
def sample_mask(
    event_id: NDArray[np.uint64],
    salt: np.uint64 | int,
    fraction: float,
    out: NDArray[np.bool_],
) -> None:
    """Choose a fraction of the events, by their numbers alone.

    A prescale of p is the fraction 1/p. The events of a smaller fraction are among those of a
    larger one of the same salt.

    Parameters
    ----------
    event_id : uint64 array, shape (N,)
    salt : int
        Any 64-bit number, such as `salt` of a name.
    fraction : float
        0 and less (or NaN) chooses none, 1 and more all.
    out : bool array, shape (N,)
        Output: whether `splitmix64` of the event lies below fraction * 2**64.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if out.size != event_id.size:
        raise ValueError("sample_mask: expected event_id (N,) and out (N,)")
    if not 0.0 < fraction < 1.0:
        for i in range(out.size):
            out[i] = fraction >= 1.0
        return
    threshold = np.uint64(fraction * 2.0**64)
    offset = _mix(np.uint64(salt)) + _GAMMA
    for i in range(event_id.size):
        out[i] = _mix(event_id[i] + offset) < threshold


@kernel((input_array("u8", 1),), hold_gil=True)
def order_digest(event_id: NDArray[np.uint64]) -> int:
    """Hash a sequence of event numbers into one 64-bit number; their order matters.

    Parameters
    ----------
    event_id : uint64 array, shape (N,)

    Returns
    -------
    int
        0 for no events.
    """
    total = np.uint64(0)
    place = np.uint64(0)
    for i in range(event_id.size):
        place += _GAMMA
        total += _mix(event_id[i] + place)
    return total  # type: ignore[return-value]
