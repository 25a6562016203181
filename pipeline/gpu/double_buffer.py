"""Double-buffered execution of batches on a GPU: copies overlap with work.

The executor has two sets of buffers, each with a stream, pinned host memory and device memory. A
piece is copied into one set while the other is in use. All work on a piece, from the first copy to
the last, is captured as a CUDA graph for each of a few numbers of events; a piece is padded to the
next of these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.schema import Array

from .cuda import CapturedGraph, Cuda, DeviceArray, Event, Memory, Stream

#: Smallest number of events of a captured graph; smaller pieces take a GPU the same time.
_MIN_EVENTS = 64

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class TensorSpec(Struct, frozen=True):
    """Name, dtype and item shape of a tensor to allocate; lists with their maximum length."""

    name: str
    dtype: str
    shape: Shape = ()

    @property
    def nbytes(self) -> int:
        """Bytes of one event."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class TensorLayout(Struct, frozen=True):
    """The tensors of one set of buffers.

    Attributes
    ----------
    inputs, outputs
        Tensors copied to the device, and those copied back.
    scratch
        Tensors that never leave the device.
    """

    inputs: Sequence[TensorSpec]
    scratch: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


#: Function of buffers and tensor shapes that returns another, which queues the work between the
#: copies to the device and back.
EnqueueFactory = Callable[["StreamBuffers", Shapes], Callable[[], None]]


class _PieceGraph(Struct):
    """The captured work on a piece, and the pinned arrays that it copies from and to."""

    graph: CapturedGraph
    inputs: list[tuple[str, Array]]
    outputs: list[tuple[str, Array]]


class StreamBuffers:
    """The buffers of one piece: memory, a stream, and the graphs that were captured for them.

    Attributes
    ----------
    stream
        Stream on which the work is queued.
    device
        Device memory, by name of the tensor.
    """

    def __init__(
        self,
        cuda: Cuda,
        layout: TensorLayout,
        max_events: int,
        enqueue_factory: EnqueueFactory,
        resources: ExitStack,
    ) -> None:
        self._layout, self._enqueue_factory, self._resources = layout, enqueue_factory, resources
        self.stream = Stream(cuda)
        resources.callback(self.stream.free)
        self._done = Event(cuda)
        resources.callback(self._done.free)
        self.device: dict[str, Memory] = {}
        self._host: dict[str, Memory] = {}
        for tensor in self._tensors():
            self.device[tensor.name] = self._memory(cuda, max_events * tensor.nbytes, pinned=False)
        for tensor in (*layout.inputs, *layout.outputs):
            self._host[tensor.name] = self._memory(cuda, max_events * tensor.nbytes, pinned=True)
        self._graphs: dict[tuple[Shape, ...], _PieceGraph] = {}
        #: Waits for the piece in flight and copies its outputs; None while there is none.
        self._copy_outputs: Callable[[], None] | None = None

    def _tensors(self) -> tuple[TensorSpec, ...]:
        return (*self._layout.inputs, *self._layout.scratch, *self._layout.outputs)

    def _memory(self, cuda: Cuda, nbytes: int, *, pinned: bool) -> Memory:
        memory = Memory(cuda, nbytes, pinned=pinned)
        self._resources.callback(memory.free)
        return memory

    def arrays(self, shapes: Shapes) -> dict[str, DeviceArray]:
        """Return the device memory as arrays of these shapes, by name of the tensor."""
        return {
            tensor.name: self.device[tensor.name].on_device(shapes[tensor.name], tensor.dtype)
            for tensor in self._tensors()
        }

    def graph(self, events: int, item_shapes: Shapes) -> _PieceGraph:
        """Return the graph for a piece of `events` events, captured when first asked for.

        `item_shapes` are those of the inputs, whose lists may be shorter than their longest.
        """
        key = ((events,), *item_shapes.values())
        if key not in self._graphs:
            self._graphs[key] = self._capture(events, item_shapes)
        return self._graphs[key]

    def _capture(self, events: int, item_shapes: Shapes) -> _PieceGraph:
        tensors = self._tensors()
        shapes = {t.name: (events, *item_shapes.get(t.name, t.shape)) for t in tensors}
        work = self._enqueue_factory(self, shapes)
        nbytes = {t.name: math.prod(shapes[t.name]) * np.dtype(t.dtype).itemsize for t in tensors}

        def enqueue() -> None:
            for tensor in self._layout.inputs:
                name = tensor.name
                self.stream.upload(self.device[name], self._host[name], nbytes[name])
            work()
            for tensor in self._layout.outputs:
                name = tensor.name
                self.stream.download(self._host[name], self.device[name], nbytes[name])

        try:
            enqueue()  # uncaptured first: engines and kernels initialise themselves on first use
        finally:
            self.stream.synchronise()
        graph = self.stream.capture(enqueue)
        self._resources.callback(graph.free)
        inputs, outputs = (
            [(t.name, self._host[t.name].on_host(shapes[t.name], t.dtype)) for t in some]
            for some in (self._layout.inputs, self._layout.outputs)
        )
        return _PieceGraph(graph, inputs, outputs)

    def launch(
        self,
        piece: _PieceGraph,
        rows: slice,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> None:
        """Launch the work on the events `rows`; `collect` fills their outputs."""
        events = rows.stop - rows.start
        for name, array in piece.inputs:
            np.copyto(array[:events], inputs[name][rows], casting="no")
        self.stream.launch(piece.graph)
        self._done.record(self.stream)

        def copy_outputs() -> None:
            self._done.synchronise()
            for name, array in piece.outputs:
                np.copyto(outputs[name][rows], array[:events], casting="no")

        self._copy_outputs = copy_outputs

    def collect(self) -> None:
        """Wait for the piece in flight, if any, and fill its outputs."""
        copy_outputs, self._copy_outputs = self._copy_outputs, None
        if copy_outputs is not None:
            copy_outputs()

    def discard(self) -> None:
        """Wait for the piece in flight, if any, and drop its outputs."""
        self._copy_outputs = None
        self.stream.synchronise()


class DoubleBufferedExecutor:
    """Runs the work on batches, in pieces, with two sets of buffers on a device.

    Parameters
    ----------
    cuda
        The device.
    layout
        The tensors of a piece.
    rows
        Minimum and maximum number of events of a piece.
    enqueue_factory
        Returns the function that queues the work on a piece.
    resources
        Releases memory, streams and graphs when it is closed.
    """

    def __init__(
        self,
        cuda: Cuda,
        layout: TensorLayout,
        rows: tuple[int, int],
        enqueue_factory: EnqueueFactory,
        resources: ExitStack,
    ) -> None:
        self._cuda = cuda
        self._max_events = rows[1]
        self._sizes = list(_sizes(*rows))
        self._buffers = [
            StreamBuffers(cuda, layout, self._max_events, enqueue_factory, resources)
            for _ in range(2)
        ]
        self._input_names = [tensor.name for tensor in layout.inputs]
        #: Largest captured number of events, by the item shapes of the inputs.
        self._captured: dict[tuple[Shape, ...], int] = {}

    def capture(self, item_shapes: Shapes, events: int) -> None:
        """Capture the graphs for `events` events and fewer, for such items of the inputs."""
        key = tuple(item_shapes.values())
        if self._captured.get(key, 0) < events:
            largest = self._padded(events)
            for size in (size for size in self._sizes if size <= largest):
                for buffers in self._buffers:
                    buffers.graph(size, item_shapes)
            self._captured[key] = largest

    def _padded(self, events: int) -> int:
        """Return the captured number of events to which `events` events are padded."""
        return next(size for size in self._sizes if size >= events)

    def run(self, events: int, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, by name of the tensor, each (events, ...)."""
        self._cuda.use()
        item_shapes = {name: inputs[name].shape[1:] for name in self._input_names}
        self.capture(item_shapes, min(events, self._max_events))
        try:
            for number, start in enumerate(range(0, events, self._max_events)):
                rows = slice(start, min(start + self._max_events, events))
                buffers = self._buffers[number % 2]
                buffers.collect()
                piece = buffers.graph(self._padded(rows.stop - start), item_shapes)
                buffers.launch(piece, rows, inputs, outputs)
            for buffers in self._buffers:
                buffers.collect()
        except BaseException:
            with suppress(Exception):  # an error of the clean-up would hide the first
                self._discard()
            raise

    def _discard(self) -> None:
        for buffers in self._buffers:
            buffers.discard()


def _sizes(min_events: int, max_events: int) -> Iterator[int]:
    """Yield the numbers of events to capture, ascending: the maximum, and halves of it."""
    sizes = [max_events]
    while sizes[-1] // 2 >= max(min_events, _MIN_EVENTS):
        sizes.append(sizes[-1] // 2)
    yield from reversed(sizes)
