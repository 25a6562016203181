"""Compile kernels ahead of the first call, for one exact signature each.

A kernel is compiled (or loaded from numba's cache) when its module is imported, never in the hot
path. Inputs may be read-only and unaligned, as Arrow and ZeroMQ buffers are. Another dtype, another
number of dimensions or an array that is not C-contiguous is refused with a `TypeError`, not
converted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar, cast

from numba import njit, types
from numba.core import entrypoints
from numba.extending import intrinsic, register_jitable

F = TypeVar("F", bound=Callable[..., Any])

_DTYPES = {
    "b1": types.boolean,
    "u1": types.uint8,
    "u4": types.uint32,
    "u8": types.uint64,
    "i8": types.int64,
    "f4": types.float32,
    "f8": types.float64,
}


def scalar(dtype: str) -> Any:
    """Declare a scalar argument, for example ``value("i8")``."""
    return _DTYPES[dtype]


def input_array(dtype: str, ndim: int) -> Any:
    """Declare a C-contiguous input array, for example ``reads("f4", 2)``."""
    return types.Array(_DTYPES[dtype], ndim, "C", readonly=True, aligned=False)


def output_array(dtype: str, ndim: int) -> Any:
    """Declare a C-contiguous, writable, aligned output array, for example ``writes("f4", 2)``."""
    return types.Array(_DTYPES[dtype], ndim, "C")


def kernel(*signatures: tuple[Any, ...], hold_gil: bool = False) -> Callable[[F], F]:
    """Compile a function for the given argument declarations.

    Parameters
    ----------
    *signatures : tuple
        One tuple of `reads`, `writes` and `value` declarations per accepted signature.
    hold_gil : bool
        Keep the GIL. Giving it up for microseconds invites another thread to hold it for longer.

    Returns
    -------
    callable
        A decorator that keeps the static type of the function.
    """

    def compile_it(function: F) -> F:
        compiler = njit(list(signatures), nogil=not hold_gil, cache=True, error_model="numpy")
        with _alone():
            return cast(F, compiler(function))

    return compile_it


def device_function(function: F) -> F:
    """Compile a scalar building block of a kernel.

    Keep it in the module of the kernels that call it: numba's cache looks at the calling file only,
    so a change in another file would leave stale machine code behind.
    """
    with _alone():
        return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))


def overloadable(function: F) -> F:
    """Let kernels call a function that stays plain Python for everybody else."""
    return register_jitable(function)


def llvm_intrinsic(function: Callable[..., Any]) -> Any:
    """Make a building block whose machine instructions `function` emits itself.

    For what the compiler does not find by itself; see `sluice.kernels.compiler.simd`.
    """
    return intrinsic(function)  # type: ignore[no-untyped-call,unused-ignore]


@contextmanager
def _alone() -> Iterator[None]:
    """Compile without what numba loads beside the compiler and no kernel needs.

    Its extensions, which other packages bring, take longer than all kernels together; SciPy, which
    it looks for to have linear algebra, a fifth of a process's start. Who compiles functions of
    their own gets both then, as always (but for `numpy.correlate`, whose sums stay a plain loop).
    """
    before = entrypoints._already_initialized
    entrypoints._already_initialized = True
    hidden = "scipy.linalg" not in sys.modules
    if hidden:
        sys.modules["scipy.linalg"] = cast(ModuleType, None)  # an import of it fails
    try:
        yield
    finally:
        entrypoints._already_initialized = before
        if hidden:
            del sys.modules["scipy.linalg"]
