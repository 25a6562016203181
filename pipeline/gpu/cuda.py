"""The CUDA runtime on one device: memory, streams, events, captured graphs.

All calls of the CUDA runtime are in this module, and the return code of each is checked. The
bindings are imported when the first device is opened.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.errors import DeviceLostError, ModelError, SluiceError
from sluice.pipeline.core.schema import Array

from .shared_libraries import DRIVER

INSTALL = "pip install 'sluice-daq[gpu]'"
#: Return codes of a machine without driver or GPU: description, and what the user can do.
_MISSING = {
    35: ("no NVIDIA driver, or one too old", f"{DRIVER.what}: {DRIVER.command}"),
    100: ("no GPU", "`nvidia-smi` lists those that the driver sees"),
}

#: Errors after which every call of the process on the device fails: uncorrectable memory, illegal
#: addresses and instructions, timeouts, asserts, failed launches, unknown errors.
_LOST = frozenset({46, 214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})


class GpuInfo(Struct, frozen=True):
    """Properties of a GPU.

    Attributes
    ----------
    name
        Product name, as the driver reports it.
    capability
        Compute capability, such as ``9.0``.
    driver
        Newest CUDA version that the driver supports, such as ``13.0``.
    """

    name: str
    capability: str
    driver: str


def load() -> ModuleType:
    """Return the Python bindings of the CUDA runtime.

    Raises
    ------
    ModelError
        If they are not installed.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ModelError(f"the CUDA runtime cannot be loaded: {error}", INSTALL) from error


class Cuda:
    """A CUDA device, and calls of the runtime on it.

    Parameters
    ----------
    index
        Index of the device in the driver's order.
    """

    def __init__(self, index: int = 0) -> None:
        self.api: Any = load()
        self.index = index
        self.require()

    def require(self) -> None:
        """Raise ModelError if the driver does not list the device; allocates nothing on it."""
        count = self.call(self.api.cudaGetDeviceCount)
        if self.index >= count:
            raise ModelError(
                f"GPU {self.index}: not there", f"the driver sees {count}, counted from 0"
            )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the runtime and return its result, if it has one.

        Raises
        ------
        ModelError
            If the call fails; the message has the call, and name and meaning of the error.
        DeviceLostError
            If it fails with an error after which all later calls fail too.
        """
        code, *result = function(*arguments)
        if int(code):
            raise self._failure(function, arguments, code)
        return result[0] if result else None

    def _failure(self, function: Any, arguments: tuple[Any, ...], code: Any) -> SluiceError:
        if int(code) in _MISSING:
            missing, hint = _MISSING[int(code)]
            return ModelError(f"CUDA: {missing} ({code.name})", hint)
        _, meaning = self.api.cudaGetErrorString(code)
        said = ", ".join(map(str, arguments))
        text = f"{function.__name__}({said}): {code.name}: {meaning.decode()}"
        if int(code) in _LOST:
            return DeviceLostError(
                f"GPU {self.index} has failed: {text}",
                "`dmesg` and `nvidia-smi -q` may tell why",
            )
        return ModelError(f"CUDA: {text}")

    def use(self) -> None:
        """Select this device for the calls of the current thread."""
        self.call(self.api.cudaSetDevice, self.index)

    def gpu(self) -> GpuInfo:
        """Return the properties of the device."""
        about = self.call(self.api.cudaGetDeviceProperties, self.index)
        driver = self.call(self.api.cudaDriverGetVersion)
        return GpuInfo(
            about.name.decode().rstrip("\0"),
            f"{about.major}.{about.minor}",
            f"{driver // 1000}.{driver % 1000 // 10}",
        )


class DeviceArray:
    """View of device memory as an array, for use as a kernel argument; it owns no memory.

    Attributes
    ----------
    address, shape, dtype
        Device address, shape and dtype; C-contiguous.
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: str) -> None:
        self.address, self.shape, self.dtype = address, shape, np.dtype(dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False),
                "strides": None, "version": 3}  # fmt: skip


class Memory:
    """Memory of a device, or pinned memory of the host for asynchronous copies.

    Parameters
    ----------
    cuda
        The device.
    nbytes
        Size, bytes.
    pinned
        Whether it is page-locked memory of the host.
    """

    def __init__(self, cuda: Cuda, nbytes: int, *, pinned: bool = False) -> None:
        api = cuda.api
        self.nbytes, self._cuda = max(nbytes, 1), cuda
        self._free = api.cudaFreeHost if pinned else api.cudaFree
        if pinned:
            self.address = int(cuda.call(api.cudaHostAlloc, self.nbytes, api.cudaHostAllocDefault))
            ctypes.memset(self.address, 0, self.nbytes)
        else:
            self.address = int(cuda.call(api.cudaMalloc, self.nbytes))

    def on_device(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Return an array of this shape and dtype at the start of device memory."""
        return DeviceArray(self.address, shape, dtype)

    def on_host(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of this shape and dtype at the start of pinned memory."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        return raw.view(dtype).reshape(shape)

    def free(self) -> None:
        """Free the memory; no queued work may use it."""
        self._cuda.call(self._free, self.address)


class CapturedGraph:
    """A CUDA graph: work of a stream, captured once and launched by one call."""

    def __init__(self, cuda: Cuda, executable: Any) -> None:
        self._cuda, self.executable = cuda, executable

    def free(self) -> None:
        """Free the resources of the runtime."""
        self._cuda.call(self._cuda.api.cudaGraphExecDestroy, self.executable)


class Stream:
    """A CUDA stream: its work is done in order, concurrently with that of other streams."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._api = cuda, cuda.api
        self.handle = cuda.call(
            self._api.cudaStreamCreateWithFlags, self._api.cudaStreamNonBlocking
        )

    @property
    def address(self) -> int:
        """Handle of the stream as a number, for other libraries."""
        return int(self.handle)

    def upload(self, to: Memory, of: Memory, nbytes: int) -> None:
        """Queue a copy of `nbytes` bytes from pinned memory to the device."""
        self._copy(to, of, nbytes, self._api.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, to: Memory, of: Memory, nbytes: int) -> None:
        """Queue a copy of `nbytes` bytes from the device to pinned memory."""
        self._copy(to, of, nbytes, self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, to: Memory, of: Memory, nbytes: int, kind: Any) -> None:
        self._cuda.call(
            self._api.cudaMemcpyAsync, to.address, of.address, nbytes, kind, self.handle
        )

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        """Call `enqueue` and capture the work that it queues on this stream, without running it."""
        api, call = self._api, self._cuda.call
        mode = api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(api.cudaStreamBeginCapture, self.handle, mode)
        try:
            enqueue()
        except BaseException:
            api.cudaStreamEndCapture(self.handle)  # its own error would hide the first
            raise
        graph = call(api.cudaStreamEndCapture, self.handle)
        try:
            return CapturedGraph(self._cuda, call(api.cudaGraphInstantiate, graph, 0))
        finally:
            call(api.cudaGraphDestroy, graph)

    def launch(self, graph: CapturedGraph) -> None:
        """Queue the work of a captured graph."""
        self._cuda.call(self._api.cudaGraphLaunch, graph.executable, self.handle)

    def synchronise(self) -> None:
        """Wait until all queued work is done."""
        self._cuda.call(self._api.cudaStreamSynchronize, self.handle)

    def free(self) -> None:
        """Free the resources of the runtime."""
        self._cuda.call(self._api.cudaStreamDestroy, self.handle)


class Event:
    """A CUDA event: a point in a stream that the host can wait for without using the CPU."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda, self._api = cuda, cuda.api
        flags = self._api.cudaEventDisableTiming | self._api.cudaEventBlockingSync
        self._handle = cuda.call(self._api.cudaEventCreateWithFlags, flags)

    def record(self, stream: Stream) -> None:
        """Set the event after the work that is queued in the stream now."""
        self._cuda.call(self._api.cudaEventRecord, self._handle, stream.handle)

    def synchronise(self) -> None:
        """Wait until the stream has reached the event."""
        self._cuda.call(self._api.cudaEventSynchronize, self._handle)

    def free(self) -> None:
        """Free the resources of the runtime."""
        self._cuda.call(self._api.cudaEventDestroy, self._handle)
