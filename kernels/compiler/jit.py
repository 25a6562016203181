"""Compile kernels ahead of the first call, for one exact signature each.

A kernel is compiled (or loaded from numba's cache) when its module is imported, never in the hot
path. Inputs may be read-only and unaligned, as Arrow and ZeroMQ buffers are. Another dtype, another
number of dimensions or an array that is not C-contiguous is refused with a `TypeError`, not
converted.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, TypeVar, cast

from numba import njit, types, version_info
from numba.core import entrypoints
from numba.extending import intrinsic, is_jitted, register_jitable

from .cache import KernelCache

F = TypeVar("F", bound=Callable[..., Any])

#: First and last version of numba that `_fast_import` is tested with; others import everything.
_TESTED_NUMBA = (0, 62), (0, 68)

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
    """Declare a scalar argument, for example ``scalar("i8")``."""
    return _DTYPES[dtype]


def input_array(dtype: str, ndim: int) -> Any:
    """Declare a C-contiguous input array, for example ``input_array("f4", 2)``."""
    return types.Array(_DTYPES[dtype], ndim, "C", readonly=True, aligned=False)


def output_array(dtype: str, ndim: int) -> Any:
    """Declare a C-contiguous, writable, aligned output array, for example
    ``output_array("f4", 2)``.
    """
    return types.Array(_DTYPES[dtype], ndim, "C")


def kernel(*signatures: tuple[Any, ...], hold_gil: bool = False) -> Callable[[F], F]:
    """Compile a function for the given argument declarations.

    Parameters
    ----------
    *signatures : tuple
        One tuple of `input_array`, `output_array` and `scalar` declarations per accepted signature.
    hold_gil : bool
        Keep the GIL. Giving it up for microseconds invites another thread to hold it for longer.

    Returns
    -------
    callable
        A decorator that keeps the static type of the function.
    """

    def decorate(function: F) -> F:
        with _fast_import():
            dispatcher: Any = njit(nogil=not hold_gil, error_model="numpy")(function)
            _cache_on_disk(dispatcher)
            if is_jitted(dispatcher):  # not under NUMBA_DISABLE_JIT
                for signature in signatures:
                    dispatcher.compile(signature)
                dispatcher.disable_compile()
            return cast(F, dispatcher)

    return decorate


def device_function(function: F) -> F:
    """Compile a scalar building block of a kernel, for the types that the kernel calls it with."""
    with _fast_import():
        dispatcher = njit(nogil=True, error_model="numpy")(function)
        _cache_on_disk(dispatcher)
        return cast(F, dispatcher)


def _cache_on_disk(dispatcher: Any) -> None:
    if hasattr(dispatcher, "py_func"):  # a plain function under NUMBA_DISABLE_JIT has none
        with suppress(RuntimeError):  # no folder can be written: each process compiles
            dispatcher._cache = KernelCache(dispatcher.py_func)


def overloadable(function: F) -> F:
    """Let kernels call a function that stays plain Python for everybody else."""
    return register_jitable(function)


def llvm_intrinsic(function: Callable[..., Any]) -> Any:
    """Make a building block whose machine instructions `function` emits itself.

    Used by `sluice.kernels.compiler.simd` for code that the compiler does not find by itself.
    """
    return intrinsic(function)  # type: ignore[no-untyped-call,unused-ignore]


def _may_import_fast() -> bool:
    asked = os.environ.get("SLUICE_FAST_IMPORT") == "1"
    return asked and _TESTED_NUMBA[0] <= version_info.short <= _TESTED_NUMBA[1]


@contextmanager
def _fast_import() -> Iterator[None]:
    """Under ``SLUICE_FAST_IMPORT=1``, compile without importing numba's extensions and SciPy.

    The commands of Sluice set this variable for themselves and their child processes. Numba loads
    the extensions that other packages register, which takes longer than loading all kernels, and
    `scipy.linalg`, which is a fifth of the start of a process; no kernel uses either. Both are
    loaded when other code compiles a function (only `numpy.correlate` keeps a plain loop then).
    The state that is changed meanwhile is global to the process: no other thread may compile or
    import `scipy.linalg` at that time.
    """
    if not _may_import_fast():
        yield
        return
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
