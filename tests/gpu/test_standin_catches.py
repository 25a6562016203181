"""The stand-in refuses what a GPU would punish: each test breaks the code and expects the error."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.gpu import cuda, double_buffer
from sluice.pipeline.gpu.cuda import Cuda, Event, Memory, Stream
from sluice.pipeline.inference.repository import Model
from sluice.pipeline.inference.session import open_session
from sluice.pipeline.inference.tensorrt import TensorRtSession

Build = Callable[..., Model]
Patch = pytest.MonkeyPatch


@pytest.fixture
def broken(machine: Any) -> Any:
    """Return the stand-in's error; what a broken session leaves behind is forgotten."""
    from sluice_standin.machine import StandInError

    yield StandInError
    machine.clear()


def _session(build: Build) -> TensorRtSession:
    session = open_session(build("wafer-encoder-9b"), "tensorrt", "test")
    assert isinstance(session, TensorRtSession)
    return session


def test_results_that_nobody_waited_for_are_nan(
    build: Build, broken: Any, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(Event, "synchronise", lambda self: None)
    with pytest.raises(ModelError, match="got a difference of inf"):
        _session(build)


def test_a_tensor_without_an_address(build: Build, broken: Any, monkeypatch: Patch) -> None:
    from sluice_standin.running import IExecutionContext

    monkeypatch.setattr(IExecutionContext, "set_tensor_address", lambda self, name, memory: True)
    with pytest.raises(broken, match="tensor 'image' has no address"):
        _session(build)


def test_an_input_without_a_shape(build: Build, broken: Any, monkeypatch: Patch) -> None:
    from sluice_standin.running import IExecutionContext

    monkeypatch.setattr(IExecutionContext, "set_input_shape", lambda self, name, shape: True)
    with pytest.raises(broken, match="input 'image' has no shape"):
        _session(build)


def test_no_working_memory(build: Build, broken: Any, monkeypatch: Patch) -> None:
    from sluice_standin.running import IExecutionContext

    monkeypatch.setattr(IExecutionContext, "set_device_memory", lambda self, memory, size: None)
    with pytest.raises(broken, match="no working memory"):
        _session(build)


def test_a_shape_beyond_the_profile(build: Build, machine: Any, monkeypatch: Patch) -> None:
    monkeypatch.setattr(double_buffer, "_sizes", lambda smallest, largest: iter((2 * largest,)))
    with pytest.raises(ModelError, match=r"expected a shape from \[1, 8, 8\] to \[256, 8, 8\]"):
        _session(build)


def test_a_capture_of_what_never_ran(build: Build, broken: Any, monkeypatch: Patch) -> None:
    capture = Stream.capture

    def reshaped(self: Stream, enqueue: Callable[[], None]) -> Any:
        from sluice_standin.running import ALIVE, IExecutionContext

        for context in list(ALIVE):
            if isinstance(context, IExecutionContext):
                context.set_input_shape("image", (2, 8, 8))
        return capture(self, enqueue)

    monkeypatch.setattr(Stream, "capture", reshaped)
    with pytest.raises(broken, match="not run with these shapes before"):
        _session(build)


def test_a_graph_whose_context_was_changed_after_the_capture(build: Build, broken: Any) -> None:
    from sluice_standin.running import ALIVE, IExecutionContext

    session = _session(build)
    for context in list(ALIVE):
        if isinstance(context, IExecutionContext):
            context.set_input_shape("image", (2, 8, 8))
    image, latent = np.zeros((3, 8, 8), np.float32), np.empty((3, 16), np.float32)
    with pytest.raises(broken, match="changed since it was queued or captured"):
        session.infer({"image": image}, {"latent": latent})


def test_a_capture_while_work_is_under_way(build: Build, broken: Any, monkeypatch: Patch) -> None:
    monkeypatch.setattr(Stream, "synchronise", lambda self: None)
    with pytest.raises(broken, match="captured with work in it that was not waited for"):
        _session(build)


def test_a_session_that_is_not_closed(build: Build, machine: Any) -> None:
    from sluice_standin.running import ALIVE

    session = _session(build)
    gc.collect()
    assert {"stream", "event", "_executable", "4096 bytes of device memory"} <= set(machine.leaks())
    assert {type(thing).__name__ for thing in ALIVE} == {
        "Runtime", "ICudaEngine", "IExecutionContext",
    }  # fmt: skip
    session.close()


def test_one_set_of_buffers_for_both_pieces(build: Build, broken: Any, monkeypatch: Patch) -> None:
    """Pinned memory is filled again while it is copied."""
    session = _session(build)
    buffers = session._executor._buffers
    session._executor._buffers = [buffers[0], buffers[0]]
    monkeypatch.setattr(double_buffer.StreamBuffers, "collect", lambda self: None)
    image = np.random.default_rng(1).random((600, 8, 8), np.float32)
    latent = np.empty((600, 16), np.float32)
    session.infer({"image": image}, {"latent": latent})
    with pytest.raises(broken, match="the host changed it before it was copied"):
        buffers[0].discard()


def free(address: int) -> tuple[Any]:
    """Fail as a call of the real runtime does."""
    return (import_module("cuda.bindings.runtime").cudaError_t.cudaErrorInvalidValue,)


@pytest.fixture
def device(machine: Any) -> Cuda:
    return Cuda()


def test_memory_of_the_wrong_kind(device: Cuda, broken: Any) -> None:
    here, there = Memory(device, 64), Memory(device, 64, pinned=True)
    stream = Stream(device)
    with pytest.raises(broken, match="expected pinned memory, got device"):
        stream.upload(there, here, 64)
    plain = SimpleNamespace(address=np.zeros(64, np.uint8).ctypes.data)
    with pytest.raises(broken, match="are not pinned memory"):
        stream.upload(here, plain, 64)  # type: ignore[arg-type]
    with pytest.raises(broken, match="65 bytes at"):
        stream.upload(here, there, 65)


def test_memory_after_its_end(device: Cuda, broken: Any) -> None:
    here, there = Memory(device, 64), Memory(device, 64, pinned=True)
    stream = Stream(device)
    stream.upload(here, there, 64)
    with pytest.raises(broken, match="freed that copy pinned to device will use"):
        here.free()
    stream.synchronise()
    here.free()
    with pytest.raises(broken, match="use of freed memory"):
        stream.download(there, here, 64)
    with pytest.raises(broken, match="not device memory that is allocated"):
        here.free()


def test_two_streams_in_no_order(device: Cuda, broken: Any) -> None:
    here, there = Memory(device, 64), Memory(device, 64, pinned=True)
    Stream(device).upload(here, there, 64)
    with pytest.raises(broken, match="two streams touch the same memory in no order"):
        Stream(device).download(there, here, 64)


def test_a_stream_that_ends_with_work_in_it(device: Cuda, broken: Any) -> None:
    here, there, stream = Memory(device, 64), Memory(device, 64, pinned=True), Stream(device)
    stream.upload(here, there, 64)
    with pytest.raises(broken, match="destroyed with work in it"):
        stream.free()


def test_waiting_and_allocating_while_a_stream_is_captured(device: Cuda, broken: Any) -> None:
    stream = Stream(device)
    with pytest.raises(broken, match="waiting while a stream is captured"):
        stream.capture(stream.synchronise)
    with pytest.raises(broken, match="allocation of device memory while"):
        stream.capture(lambda: [Memory(device, 1)].clear())


def test_an_event_that_was_never_recorded(device: Cuda, broken: Any) -> None:
    with pytest.raises(broken, match="never recorded"):
        Event(device).synchronise()


def test_copies_are_done_when_waited_for_and_not_before(device: Cuda, machine: Any) -> None:
    """What the stand-in does with code that is right."""
    here, there = Memory(device, 16), Memory(device, 16, pinned=True)
    stream, event = Stream(device), Event(device)
    numbers = there.on_host((4,), "float32")
    numbers[:] = 7
    stream.upload(here, there, 16)
    stream.synchronise()
    stream.download(there, here, 16)
    event.record(stream)
    assert np.isnan(numbers).all()
    event.synchronise()
    assert (numbers == 7).all()
    for thing in (here, there, stream, event):
        thing.free()


def test_a_call_that_fails_tells_call_and_reason(device: Cuda, monkeypatch: Patch) -> None:
    monkeypatch.setattr(device.api, "DEVICE_BYTES", 100)
    with pytest.raises(ModelError, match=r"CUDA: cudaMalloc\(101\): cudaErrorMemoryAllocation: "):
        Memory(device, 101)


@pytest.mark.skipif(
    os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="a GPU is there, so nothing is missing"
)
def test_the_real_runtime_without_a_driver_says_so() -> None:
    with pytest.raises(ModelError, match=r"CUDA: no NVIDIA driver, or one too old") as refused:
        Cuda()
    assert "driver" in str(refused.value.hint)
    api = import_module("cuda.bindings.runtime")
    unbound = Cuda.__new__(Cuda)
    unbound.api = api
    with pytest.raises(ModelError, match=r"free\(7\): cudaErrorInvalidValue: invalid argument"):
        unbound.call(free, 7)


def test_the_library_that_is_missing_is_named(monkeypatch: Patch) -> None:
    def missing(name: str) -> None:
        raise ImportError("No module named 'cuda.bindings'")

    monkeypatch.setattr(cuda, "import_module", missing)
    with pytest.raises(ModelError, match=r"cuda\.bindings"):
        Cuda()
