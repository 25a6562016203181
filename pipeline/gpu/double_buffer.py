"""Events to a GPU and back, in pieces: the copies of one piece overlap the work on another.

A ferry has two berths, each with a stream, pinned memory of the host and memory of the device. A
piece is put into one berth while the other's is under way. What a berth does, from the first copy
to the last, is captured as a graph for each number of events that it knows; a piece is padded to
the next of these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.schema import Array

from .cuda import CapturedGraph, Cuda, DeviceArray, Event, Memory, Stream

#: Fewer events are padded to this many.
_FEWEST = 64

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class TensorSpec(Struct, frozen=True):
    """What a berth has room for, for each event: items of `shape`, lists at their longest."""

    name: str
    dtype: str
    shape: Shape = ()

    @property
    def nbytes(self) -> int:
        """Bytes of one event."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class TensorLayout(Struct, frozen=True):
    """The arrays of a berth: `up` come from the host, `down` go back, `inner` never leave."""

    inputs: Sequence[TensorSpec]
    scratch: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


#: Given a berth and the shapes of its arrays, returns what queues the work between the copies.
EnqueueFactory = Callable[["StreamBuffers", Shapes], Callable[[], None]]


class _Voyage(Struct):
    """A captured graph and the host's side of its arrays."""

    graph: CapturedGraph
    up: list[tuple[str, Array]]
    down: list[tuple[str, Array]]


class StreamBuffers:
    """A place for one piece: memory, a stream, and the graphs that were captured for it.

    Attributes
    ----------
    stream
        Where its work is queued.
    device
        Memory by name of the array.
    """

    def __init__(
        self, cuda: Cuda, cargo: TensorLayout, rows: int, program: EnqueueFactory, own: ExitStack
    ) -> None:
        self._cargo, self._program, self._own = cargo, program, own
        self.stream = Stream(cuda)
        own.callback(self.stream.free)
        self._done = Event(cuda)
        own.callback(self._done.free)
        self.device: dict[str, Memory] = {}
        self._host: dict[str, Memory] = {}
        for room in (*cargo.inputs, *cargo.scratch, *cargo.outputs):
            self.device[room.name] = self._memory(cuda, rows * room.nbytes, pinned=False)
        for room in (*cargo.inputs, *cargo.outputs):
            self._host[room.name] = self._memory(cuda, rows * room.nbytes, pinned=True)
        self._voyages: dict[tuple[Shape, ...], _Voyage] = {}
        self._landing: Callable[[], None] | None = None

    def _memory(self, cuda: Cuda, nbytes: int, *, pinned: bool) -> Memory:
        memory = Memory(cuda, nbytes, pinned=pinned)
        self._own.callback(memory.free)
        return memory

    def arrays(self, shapes: Shapes) -> dict[str, DeviceArray]:
        """Return its memory on the device as arrays of these shapes."""
        rooms = (*self._cargo.inputs, *self._cargo.scratch, *self._cargo.outputs)
        return {r.name: self.device[r.name].on_device(shapes[r.name], r.dtype) for r in rooms}

    def prepare(self, size: int, items: Shapes) -> _Voyage:
        """Return the graph for so many events with such items, captured when first asked for."""
        key = ((size,), *items.values())
        if key not in self._voyages:
            self._voyages[key] = self._capture(size, items)
        return self._voyages[key]

    def _capture(self, size: int, items: Shapes) -> _Voyage:
        rooms = (*self._cargo.inputs, *self._cargo.scratch, *self._cargo.outputs)
        shapes = {room.name: (size, *items.get(room.name, room.shape)) for room in rooms}
        work = self._program(self, shapes)
        bytes_ = {r.name: math.prod(shapes[r.name]) * np.dtype(r.dtype).itemsize for r in rooms}

        def enqueue() -> None:
            for room in self._cargo.inputs:
                name = room.name
                self.stream.upload(self.device[name], self._host[name], bytes_[name])
            work()
            for room in self._cargo.outputs:
                name = room.name
                self.stream.download(self._host[name], self.device[name], bytes_[name])

        try:
            enqueue()  # once plain: engines and kernels set themselves up outside of captures
        finally:
            self.stream.synchronise()
        graph = self.stream.capture(enqueue)
        self._own.callback(graph.free)
        up, down = (
            [(r.name, self._host[r.name].on_host(shapes[r.name], r.dtype)) for r in part]
            for part in (self._cargo.inputs, self._cargo.outputs)
        )
        return _Voyage(graph, up, down)

    def launch(
        self,
        voyage: _Voyage,
        rows: slice,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> None:
        """Send off the events `rows`; `land` fills their outputs."""
        events = rows.stop - rows.start
        for name, array in voyage.up:
            np.copyto(array[:events], inputs[name][rows], casting="no")
        self.stream.launch(voyage.graph)
        self._done.record(self.stream)

        def landing() -> None:
            self._done.synchronise()
            for name, array in voyage.down:
                np.copyto(outputs[name][rows], array[:events], casting="no")

        self._landing = landing

    def collect(self) -> None:
        """Wait for the piece that is under way, if any, and hand out what came of it."""
        landing, self._landing = self._landing, None
        if landing is not None:
            landing()

    def discard(self) -> None:
        """Wait for whatever is under way, and hand out nothing."""
        self._landing = None
        self.stream.synchronise()


class DoubleBufferedExecutor:
    """Two berths on a device.

    Parameters
    ----------
    cuda
        The device.
    cargo
        The arrays.
    rows
        Least and most events of a piece.
    program
        What is done with a piece on the device.
    own
        Frees all of it when it is closed, last taken first.
    """

    def __init__(
        self,
        cuda: Cuda,
        cargo: TensorLayout,
        rows: tuple[int, int],
        program: EnqueueFactory,
        own: ExitStack,
    ) -> None:
        self._cuda = cuda
        self._most = rows[1]
        self._sizes = list(_sizes(*rows))
        self._berths = [StreamBuffers(cuda, cargo, self._most, program, own) for _ in range(2)]
        self._up = [room.name for room in cargo.inputs]
        #: Most events that graphs were captured for, by the items of their inputs.
        self._prepared: dict[tuple[Shape, ...], int] = {}

    def capture(self, items: Shapes, events: int) -> None:
        """Capture the graphs for so many events with such items in the inputs, and for fewer."""
        key = tuple(items.values())
        if self._prepared.get(key, 0) < events:
            most = self._padded(events)
            for size in (size for size in self._sizes if size <= most):
                for berth in self._berths:
                    berth.prepare(size, items)
            self._prepared[key] = most

    def _padded(self, events: int) -> int:
        """Return the number of events that graphs are captured for and these are padded to."""
        return next(size for size in self._sizes if size >= events)

    def run(self, events: int, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`, for so many events."""
        self._cuda.use()
        items = {name: inputs[name].shape[1:] for name in self._up}
        self.capture(items, min(events, self._most))
        try:
            for number, start in enumerate(range(0, events, self._most)):
                rows = slice(start, min(start + self._most, events))
                berth = self._berths[number % 2]
                berth.collect()
                voyage = berth.prepare(self._padded(rows.stop - start), items)
                berth.launch(voyage, rows, inputs, outputs)
            for berth in self._berths:
                berth.collect()
        except BaseException:
            with suppress(Exception):  # the first failure is what counts
                self._abandon()
            raise

    def _abandon(self) -> None:
        for berth in self._berths:
            berth.discard()


def _sizes(least: int, most: int) -> Iterator[int]:
    """Yield the numbers of events to capture, rising: the most, and halves of it."""
    sizes = [most]
    while sizes[-1] // 2 >= max(least, _FEWEST):
        sizes.append(sizes[-1] // 2)
    yield from reversed(sizes)
