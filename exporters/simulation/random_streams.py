"""Random streams of simulated events, compiled: one for each event, keyed on seed and number.

The same event comes out whatever the size of the block that it was asked for in. What a seed gives
never changes: recordings and training sets are named by it.

References
----------
S. Steele, D. Lea, C. Flood, OOPSLA 2014: the SplitMix64 generator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sluice.kernels.compiler.jit import device_function

TURN = 2.0 * math.pi
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11))


@device_function
def _mix(z: Any) -> Any:
    z = (z ^ (z >> _SHIFTS[0])) * _MIX_1
    z = (z ^ (z >> _SHIFTS[1])) * _MIX_2
    return z ^ (z >> _SHIFTS[2])


@device_function
def begin(state: Any, seed: Any, number: Any) -> None:
    """Set a stream, (1,) u64, to the start of an event's."""
    key = _mix(np.uint64(seed) * _MIX_1 + _GOLDEN)
    state[0] = _mix(key ^ _mix(np.uint64(number) + _GOLDEN))


@device_function
def uniform(state: Any) -> Any:
    """Draw evenly from (0, 1]: the logarithm is always finite."""
    state[0] += _GOLDEN
    return (float(_mix(state[0]) >> _SHIFTS[3]) + 1.0) * 2.0**-53


@device_function
def normal(state: Any) -> Any:
    """Draw from the normal distribution."""
    radius = math.sqrt(-2.0 * math.log(uniform(state)))
    return radius * math.cos(TURN * uniform(state))


@device_function
def poisson(state: Any, mean: Any) -> Any:
    """Draw a count of this mean, which is small."""
    left, count = math.exp(-mean), 0
    product = uniform(state)
    while product > left:
        count += 1
        product *= uniform(state)
    return count
