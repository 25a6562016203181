"""The CUDA runtime's calls that Sluice uses, as `cuda.bindings.runtime` has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from inspect import isfunction
from pathlib import Path
from typing import Any

from .machine import MACHINE, Event, Op, StandInError, Stream


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorIllegalAddress = 700


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


cudaStreamNonBlocking = 1
cudaHostAllocDefault = 0
cudaEventBlockingSync = 1
cudaEventDisableTiming = 2

_OK = cudaError_t.cudaSuccess
_KINDS = {cudaMemcpyKind.cudaMemcpyHostToDevice: ("pinned", "device"),
          cudaMemcpyKind.cudaMemcpyDeviceToHost: ("device", "pinned")}  # fmt: skip
#: Devices, and the memory of one; tests change them.
DEVICES = int(os.environ.get("SLUICE_STANDIN_DEVICES", "1"))
DEVICE_BYTES = 1 << 34
#: Graphs that are launched before it fails, where it shall: all of a warm-up, some of a run.
LAUNCHES = int(os.environ.get("SLUICE_STANDIN_LAUNCHES", "100"))


def _fails() -> bool:
    """Whether the GPU is lost to this process: in the middle of a run, once, where a file is."""
    file = Path(os.environ.get("SLUICE_STANDIN_LOSE", "nowhere"))
    if MACHINE.counts.get("graph", 0) > LAUNCHES and file.exists():
        file.unlink()
        MACHINE.lost = True
    return MACHINE.lost


@dataclass
class cudaDeviceProp:
    name: bytes = os.environ.get("SLUICE_STANDIN_GPU", "Stand-in GPU").encode()
    major: int = 9
    minor: int = 0


@dataclass(eq=False)
class _Graph:
    ops: list[Op]


@dataclass(eq=False)
class _Executable:
    ops: list[Op]


def cudaGetErrorString(error: Any) -> tuple[cudaError_t, bytes]:
    return _OK, cudaError_t(error).name.encode()


def cudaGetDeviceCount() -> tuple[cudaError_t, int | None]:
    return (_OK, DEVICES) if DEVICES else (cudaError_t.cudaErrorNoDevice, None)


def cudaSetDevice(device: int) -> tuple[cudaError_t]:
    return (_OK if 0 <= device < DEVICES else cudaError_t.cudaErrorInvalidDevice,)


def cudaGetDeviceProperties(device: int) -> tuple[cudaError_t, cudaDeviceProp]:
    return _OK, cudaDeviceProp()


def cudaDriverGetVersion() -> tuple[cudaError_t, int]:
    return _OK, 13000


def cudaMalloc(size: int) -> tuple[cudaError_t, int | None]:
    used = sum(block.nbytes for block in MACHINE.blocks.values() if block.kind == "device")
    if used + size > DEVICE_BYTES:
        return cudaError_t.cudaErrorMemoryAllocation, None
    return _OK, MACHINE.allocate(size, "device")


def cudaFree(devPtr: int) -> tuple[cudaError_t]:
    MACHINE.free(devPtr, "device")
    return (_OK,)


def cudaHostAlloc(size: int, flags: int) -> tuple[cudaError_t, int]:
    return _OK, MACHINE.allocate(size, "pinned")


def cudaFreeHost(ptr: int) -> tuple[cudaError_t]:
    MACHINE.free(ptr, "pinned")
    return (_OK,)


def cudaStreamCreateWithFlags(flags: int) -> tuple[cudaError_t, int]:
    return _OK, MACHINE.add(Stream())


def cudaStreamDestroy(stream: int) -> tuple[cudaError_t]:
    MACHINE.remove(stream, Stream)
    return (_OK,)


def cudaStreamSynchronize(stream: int) -> tuple[cudaError_t]:
    MACHINE.drain(MACHINE.get(stream, Stream))
    return (_OK,)


def cudaMemcpyAsync(dst: int, src: int, count: int, kind: Any, stream: int) -> tuple[cudaError_t]:
    op = MACHINE.copy(dst, src, count, _KINDS[kind])
    MACHINE.submit(MACHINE.get(stream, Stream), op)
    return (_OK,)


def cudaEventCreateWithFlags(flags: int) -> tuple[cudaError_t, int]:
    return _OK, MACHINE.add(Event())


def cudaEventDestroy(event: int) -> tuple[cudaError_t]:
    MACHINE.remove(event, Event)
    return (_OK,)


def cudaEventRecord(event: int, stream: int) -> tuple[cudaError_t]:
    mark = Op("event", [], [], lambda: lambda: None)
    found, queue = MACHINE.get(event, Event), MACHINE.get(stream, Stream)
    found.stream, found.mark = queue, mark
    MACHINE.submit(queue, mark)
    return (_OK,)


def cudaEventSynchronize(event: int) -> tuple[cudaError_t]:
    found = MACHINE.get(event, Event)
    if found.mark is None:
        raise StandInError("waiting for an event that was never recorded")
    MACHINE.drain(found.stream, found.mark)
    return (_OK,)


def cudaStreamBeginCapture(stream: int, mode: Any) -> tuple[cudaError_t]:
    found = MACHINE.get(stream, Stream)
    if found.queue:
        raise StandInError("a stream is captured with work in it that was not waited for")
    found.capturing = []
    return (_OK,)


def cudaStreamEndCapture(stream: int) -> tuple[cudaError_t, int]:
    found = MACHINE.get(stream, Stream)
    if found.capturing is None:
        raise StandInError("a stream is not captured")
    ops, found.capturing = found.capturing, None
    return _OK, MACHINE.add(_Graph(ops))


def cudaGraphInstantiate(graph: int, flags: int) -> tuple[cudaError_t, int]:
    return _OK, MACHINE.add(_Executable(MACHINE.get(graph, _Graph).ops))


def cudaGraphDestroy(graph: int) -> tuple[cudaError_t]:
    MACHINE.remove(graph, _Graph)
    return (_OK,)


def cudaGraphExecDestroy(graphExec: int) -> tuple[cudaError_t]:
    executable = MACHINE.get(graphExec, _Executable)
    for thing in MACHINE.things.values():
        if isinstance(thing, Stream) and any(
            op is mine for op, _ in thing.queue for mine in executable.ops
        ):
            raise StandInError("a graph is destroyed while it is launched")
    MACHINE.remove(graphExec, _Executable)
    return (_OK,)


def cudaGraphLaunch(graphExec: int, stream: int) -> tuple[cudaError_t]:
    queue = MACHINE.get(stream, Stream)
    for op in MACHINE.get(graphExec, _Executable).ops:
        MACHINE.submit(queue, op)
    MACHINE.counts["graph"] = MACHINE.counts.get("graph", 0) + 1
    return (_OK,)


def _as_failed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call fail once the GPU has."""

    @wraps(function)
    def call(*arguments: Any) -> Any:
        if _fails():
            return (cudaError_t.cudaErrorIllegalAddress,)
        return function(*arguments)

    return call


for _name, _value in list(globals().items()):
    if _name.startswith("cuda") and isfunction(_value) and _value is not cudaGetErrorString:
        globals()[_name] = _as_failed(_value)

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
    from .simulator import follow_streams

    follow_streams()
