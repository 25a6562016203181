"""The functions of `intrinsics_device` for numba's simulator, whose blocks are one warp."""

import threading
from typing import Any

import numpy as np
from numba import cuda

from .launch import WARP


def load4(array: Any, at: int) -> Any:
    """Return elements `at` to `at` + 3; `at` is a multiple of 4."""
    assert at % 4 == 0
    return array[at], array[at + 1], array[at + 2], array[at + 3]


def store4(array: Any, at: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Set elements `at` to `at` + 3; `at` is a multiple of 4."""
    assert at % 4 == 0
    array[at], array[at + 1], array[at + 2], array[at + 3] = a, b, c, d


def bits_of(number: Any) -> Any:
    """Return the bit pattern of a float32."""
    return np.float32(number).view(np.uint32)


def float_of(pattern: Any) -> Any:
    """Return the float32 of a bit pattern."""
    return np.uint32(pattern).view(np.float32)


def bits_of_double(number: Any) -> Any:
    """Return the bit pattern of a float64."""
    return np.float64(number).view(np.int64)


def double_of(pattern: Any) -> Any:
    """Return the float64 of a bit pattern."""
    return np.int64(pattern).view(np.float64)


def product(a: Any, b: Any) -> Any:
    """Return the rounded product of two float32, never fused with an addition."""
    return np.float32(a) * np.float32(b)


def nth_of_48(array: Any, first: int, n: int) -> Any:
    """Return the element that `n` of the 48 from `first` on are not larger than."""
    return np.sort(array[first : first + 48])[n]


@cuda.jit(device=True)
def _numbers(number: Any) -> Any:
    """Return the numbers of all lanes, a copy."""
    # Two arrays in turn: no lane is two calls ahead of another.
    thread: Any = threading.current_thread()
    thread.turn = 1 - getattr(thread, "turn", 0)
    seen = cuda.shared.array((2, WARP), np.float64)
    seen[thread.turn, cuda.laneid] = number
    cuda.syncthreads()
    return seen[thread.turn].copy()


def _tree(numbers: Any) -> Any:
    while len(numbers) > 1:
        half = len(numbers) // 2
        numbers = numbers[:half] + numbers[half:]
    return numbers[0]


@cuda.jit(device=True)
def sum_of_16(number: Any) -> Any:
    """Return the sum over the 16 lanes of this half of the warp, the two halves of each added."""
    start = cuda.laneid & 16
    return _tree(_numbers(number)[start : start + 16])


def sum_of_warp(number: Any) -> Any:
    """Return the sum over the 32 lanes of the warp."""
    return _tree(_numbers(number))


def min_of_warp(number: Any) -> Any:
    """Return the smallest number of the 32 lanes, and a lane that has it: the same in all lanes."""
    numbers = _numbers(number)
    return numbers.min(), int(numbers.argmin())


def ballot(yes: Any) -> Any:
    """Return the lanes, of 32, for which `yes` holds, a bit each."""
    return sum(1 << lane for lane, one in enumerate(_numbers(yes)) if one)


@cuda.jit(device=True)
def any_of_16(yes: Any) -> Any:
    """Return whether `yes` holds for one of the 16 lanes of this half of the warp."""
    start = cuda.laneid & 16
    return bool(_numbers(yes)[start : start + 16].any())


def lowest_bit(bits: Any) -> Any:
    """Return the index of the lowest set bit of a uint64 that is not 0."""
    return (int(bits) & -int(bits)).bit_length() - 1


@cuda.jit(device=True)
def sync_warp() -> None:
    """Wait for the other lanes of the warp; they see what was written before."""
    cuda.syncthreads()
