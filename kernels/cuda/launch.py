"""Declare kernels, check their arguments and launch them."""

from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda import types

try:
    from numba.cuda.core import config
except ModuleNotFoundError as error:  # numba has a `numba.cuda` of its own, an older one
    raise ModuleNotFoundError(
        "kernels for GPUs need numba-cuda: pip install 'numba-cuda[cu13]'"
    ) from error

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether numba's simulator stands in for a GPU."""
WARP = 32
"""Threads of a warp."""

#: Any object with `__cuda_array_interface__`; in the simulator a NumPy array.
DeviceArray = Any
#: A stream of numba, or the address of a CUDA stream; 0 is the default stream.
Stream = Any

# A small grid is a small batch, which is no mistake to warn of.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

_TYPES = {
    "u1": types.uint8,
    "u4": types.uint32,
    "i4": types.int32,
    "i8": types.int64,
    "f4": types.float32,
    "f8": types.float64,
}


class Traffic(NamedTuple):
    """Bytes that one event moves between a kernel and the GPU's memory, each counted once."""

    event: str
    read: float
    written: float


def threads(wanted: int) -> int:
    """Return the threads of a block: `wanted`, but one warp in the simulator."""
    return WARP if SIMULATED else wanted


def building_block(function: Callable[..., Any]) -> Any:
    """Make a function that kernels call; plain Python in the simulator.

    The function must not use the name `cuda`: the simulator defines it in kernels only.
    """
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)


class Kernel:
    """A kernel with its declaration.

    Parameters
    ----------
    function
        Python source of the kernel, run by each thread.
    arguments
        Its arguments in order, for example ``"f4[], i8"``: an array, which the kernel sees flat,
        and a scalar.
    threads
        Threads of a block, on a GPU.
    resident
        Blocks that must fit on a multiprocessor at once: limits the registers of a thread.
    traffic
        Bytes that the kernel reads and writes per event.
    name
        Name of the kernel; that of the function by default.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arguments: str,
        threads: int,
        resident: int,
        traffic: Traffic,
        name: str = "",
    ) -> None:
        self.name = name or function.__name__.strip("_")
        self.function = function
        self.arguments = tuple(map(_type, arguments.split(", ")))
        self.threads = threads
        self.launch_bounds = (threads, resident)
        self._scalars = [
            None if isinstance(kind, types.Array) else np.dtype(str(kind)).type
            for kind in self.arguments
        ]
        self.traffic = traffic

    @cached_property
    def _compiled(self) -> Any:
        if SIMULATED:
            return cuda.jit(self.function)
        # Without link-time optimisation, so that the code that runs is the code of ptxas's report.
        return cuda.jit(self.function, launch_bounds=self.launch_bounds, lto=False)

    def __call__(self, blocks: int, stream: Stream, *arguments: Any) -> None:
        """Put the kernel into a stream; nothing is done for 0 blocks."""
        if blocks == 0:
            return
        if isinstance(stream, int) and stream:
            stream = cuda.external_stream(stream)
        given = [
            made(argument) if made else argument
            for argument, made in zip(arguments, self._scalars, strict=True)
        ]
        self._compiled[blocks, threads(self.threads), stream](*given)


def kernel(
    arguments: str, *, threads: int, resident: int, traffic: Traffic
) -> Callable[[Any], Kernel]:
    """Declare the decorated function as a `Kernel`, whose parameters these are."""
    return lambda function: Kernel(function, arguments, threads, resident, traffic)


def _type(argument: str) -> Any:
    """Return numba's type of an argument, declared as `Kernel` says."""
    scalar = _TYPES[argument.removesuffix("[]")]
    return types.Array(scalar, 1, "C") if argument.endswith("[]") else scalar


class _Flat:
    """A device array without its shape, of the dtype that a kernel declares."""

    def __init__(self, owner: Any, interface: dict[str, Any], dtype: str) -> None:
        size = prod(interface["shape"]) * int(interface["typestr"][2:]) // int(dtype[1:])
        self._owner = owner
        self._numba_type_ = _type(f"{dtype}[]")
        described = {
            "shape": (size,),
            "typestr": np.dtype(dtype).str,
            "data": interface["data"],
            "strides": None,
            "version": 3,
        }
        if SIMULATED:
            self.__array_interface__ = described
        else:
            self.__cuda_array_interface__ = {**described, "stream": None}


def shape(array: DeviceArray) -> tuple[int, ...]:
    """Return the shape of a device array."""
    return tuple(_interface(array)["shape"])


def flat(
    what: str, array: DeviceArray, dtype: str, shape: Sequence[int], seen_as: str = ""
) -> DeviceArray:
    """Check a device array and return it as a kernel sees it.

    Parameters
    ----------
    what : str
        Kernel and argument, for errors.
    array : device array
    dtype : str
        Expected, for example ``"f4"``.
    shape : sequence of int
        Expected.
    seen_as : str
        Dtype that the kernel reads the bytes as, if it is another.

    Raises
    ------
    TypeError
        If the dtype differs, or the array is not C-contiguous.
    ValueError
        If the shape differs, or the address is no multiple of 16.
    """
    interface = _interface(array)
    if interface["typestr"] != np.dtype(dtype).str:
        raise TypeError(f"{what}: expected dtype {dtype}, got {interface['typestr']}")
    if tuple(interface["shape"]) != tuple(shape):
        raise ValueError(f"{what}: expected shape {tuple(shape)}, got {interface['shape']}")
    if not _contiguous(interface):
        raise TypeError(f"{what}: expected a C-contiguous array")
    if not SIMULATED and interface["data"][0] % 16:
        raise ValueError(f"{what}: expected an address that is a multiple of 16")
    seen = _Flat(array, interface, seen_as or dtype)
    if SIMULATED:
        from .simulator import device_array

        return device_array(seen)
    return seen


def _interface(array: DeviceArray) -> dict[str, Any]:
    found = getattr(array, "__cuda_array_interface__", None)
    if found is None and SIMULATED:
        found = getattr(array, "__array_interface__", None)
    if found is None:
        raise TypeError(
            f"expected a device array (with __cuda_array_interface__), got {type(array).__name__}"
        )
    return dict(found)


def _contiguous(interface: dict[str, Any]) -> bool:
    strides, step = interface.get("strides"), int(interface["typestr"][2:])
    if strides is None or 0 in interface["shape"]:
        return True
    for size, stride in zip(reversed(interface["shape"]), reversed(strides), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True
