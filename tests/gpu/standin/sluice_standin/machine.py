"""A GPU that is not there: memory, streams and graphs, and every rule that a real one has.

Work is queued, and done only when somebody waits for it: whoever reads before that reads poison.
"""

from __future__ import annotations

import atexit
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

POISON = 0xFF  # as float32 and float16, NaN
_ALIGNMENT = 256

Span = tuple[int, int]


class StandInError(AssertionError):
    """The code under test broke a rule of the real runtime."""


class Block:
    """One allocation; its memory stays mapped when it is freed, so that later use is found."""

    def __init__(self, nbytes: int, kind: str) -> None:
        self.nbytes, self.kind, self.alive = nbytes, kind, True
        self._memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -self._memory.ctypes.data % _ALIGNMENT
        self.bytes = self._memory[start : start + nbytes]
        self.bytes.fill(POISON)
        self.address = self.bytes.ctypes.data

    def has(self, address: int, nbytes: int) -> bool:
        return self.address <= address and address + nbytes <= self.address + self.nbytes


@dataclass
class Op:
    """Work for a stream.

    `start` is called when the work is given or replayed and returns what does it, later.
    """

    label: str
    reads: list[Span]
    writes: list[Span]
    start: Callable[[], Callable[[], None]]


@dataclass(eq=False)
class Stream:
    queue: list[tuple[Op, Callable[[], None]]] = field(default_factory=list)
    capturing: list[Op] | None = None


@dataclass(eq=False)
class Event:
    stream: Stream | None = None
    mark: Op | None = None


class Machine:
    """All state of the stand-in. One a process."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.freed: list[Block] = []
        self.things: dict[int, Any] = {}
        self.counts: dict[str, int] = {}
        self.max_busy_streams = 0
        self.lost = False
        self._next = 1 << 20

    def clear(self) -> None:
        """Forget everything, what was leaked too."""
        for block in self.blocks.values():
            block.alive = False
        self.freed.extend(self.blocks.values())
        self.blocks.clear()
        self.things.clear()
        self.counts.clear()
        self.max_busy_streams = 0
        self.lost = False

    # Handles: streams, events, graphs.

    def add(self, thing: Any) -> int:
        self._next += 16
        self.things[self._next] = thing
        return self._next

    def get(self, handle: Any, kind: type) -> Any:
        thing = self.things.get(int(handle))
        if not isinstance(thing, kind):
            raise StandInError(f"expected a live {kind.__name__}, got {handle}")
        return thing

    def remove(self, handle: Any, kind: type) -> None:
        thing = self.get(handle, kind)
        if isinstance(thing, Stream) and thing.queue:
            raise StandInError(f"a stream is destroyed with work in it: {thing.queue[0][0].label}")
        del self.things[int(handle)]

    # Memory.

    def allocate(self, nbytes: int, kind: str) -> int:
        self.forbid_while_capturing(f"allocation of {kind} memory")
        block = Block(nbytes, kind)
        self.blocks[block.address] = block
        return block.address

    def free(self, address: int, kind: str) -> None:
        self.forbid_while_capturing(f"freeing {kind} memory")
        block = self.blocks.get(address)
        if block is None or block.kind != kind:
            raise StandInError(f"{address:#x} is not {kind} memory that is allocated")
        for stream in self._streams():
            for op, _ in stream.queue:
                if any(block.has(start, 1) for start, _ in (*op.reads, *op.writes)):
                    raise StandInError(f"{kind} memory is freed that {op.label} will use")
        block.alive = False
        block.bytes.fill(POISON)
        self.freed.append(self.blocks.pop(address))

    def memory(self, address: int, nbytes: int, kind: str, what: str) -> Any:
        """Return live memory of a kind as bytes, or say what is wrong with it."""
        for block in self.blocks.values():
            if block.has(address, nbytes):
                if block.kind != kind:
                    raise StandInError(f"{what}: expected {kind} memory, got {block.kind}")
                at = address - block.address
                return block.bytes[at : at + nbytes]
        if any(block.has(address, 1) for block in self.freed):
            raise StandInError(f"{what}: use of freed memory")
        raise StandInError(f"{what}: {nbytes} bytes at {address:#x} are not {kind} memory")

    # Work.

    def submit(self, stream: Stream, op: Op) -> None:
        if stream.capturing is not None:
            stream.capturing.append(op)
            return
        self._race(stream, op)
        self.counts[op.label] = self.counts.get(op.label, 0) + 1
        stream.queue.append((op, op.start()))
        busy = sum(bool(s.queue) for s in self._streams())
        self.max_busy_streams = max(self.max_busy_streams, busy)

    def _race(self, stream: Stream, op: Op) -> None:
        for other in self._streams():
            if other is stream:
                continue
            for waiting, _ in other.queue:
                if _meet(op.writes, waiting.reads + waiting.writes) or _meet(
                    op.reads, waiting.writes
                ):
                    raise StandInError(
                        f"two streams touch the same memory in no order: {op.label} and "
                        f"{waiting.label}"
                    )

    def drain(self, stream: Stream, upto: Op | None = None) -> None:
        self.forbid_while_capturing("waiting")
        while stream.queue and (upto is None or any(op is upto for op, _ in stream.queue)):
            _, work = stream.queue.pop(0)
            work()

    def forbid_while_capturing(self, what: str) -> None:
        if any(stream.capturing is not None for stream in self._streams()):
            raise StandInError(f"{what} while a stream is captured")

    def copy(self, to: int, of: int, nbytes: int, kinds: tuple[str, str]) -> Op:
        """Return a copy of memory; the host's side must be pinned."""
        source_kind, target_kind = kinds
        label = f"copy {source_kind} to {target_kind}"

        def look() -> tuple[Any, Any]:
            return (self.memory(of, nbytes, source_kind, f"{label}, source"),
                    self.memory(to, nbytes, target_kind, f"{label}, target"))  # fmt: skip

        def start() -> Callable[[], None]:
            source, target = look()
            before = zlib.crc32(source) if source_kind == "pinned" else 0
            if target_kind == "pinned":
                target.fill(POISON)

            def work() -> None:
                source, target = look()
                if source_kind == "pinned" and zlib.crc32(source) != before:
                    raise StandInError(f"{label}: the host changed it before it was copied")
                target[:] = source

            return work

        look()
        return Op(label, [(of, nbytes)], [(to, nbytes)], start)

    # The end.

    def report(self) -> str:
        """Return counts and leaks as JSON."""
        return json.dumps({"counts": self.counts, "leaks": self.leaks()})

    def leaks(self) -> list[str]:
        """Return what was taken and not given back."""
        found = [f"{block.nbytes} bytes of {block.kind} memory" for block in self.blocks.values()]
        return found + [type(thing).__name__.lower() for thing in self.things.values()]

    def _streams(self) -> list[Stream]:
        return [thing for thing in self.things.values() if isinstance(thing, Stream)]


def _meet(some: list[Span], others: list[Span]) -> bool:
    return any(a < d + m and d < a + n for a, n in some for d, m in others)


#: The machine that the modules `tensorrt` and `cuda.bindings.runtime` speak to.
MACHINE = Machine()

if "SLUICE_STANDIN_REPORT" in os.environ:
    atexit.register(lambda: Path(os.environ["SLUICE_STANDIN_REPORT"]).write_text(MACHINE.report()))
