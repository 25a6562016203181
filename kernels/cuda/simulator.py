"""Corrections to numba's simulator: races removed, barriers that block instead of polling."""

import sys
import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel, kernelapi
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray


class _Shared(kernelapi.FakeCUDAShared):  # type: ignore[misc,unused-ignore]
    """Shared arrays, one for each line of a kernel that makes one.

    The simulator's own class has a race: two threads that reach a line at once may get two arrays.
    """

    def array(self, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        """Return the array of the line that calls."""
        caller = sys._getframe(1)
        line = (caller.f_code, caller.f_lineno)
        found = self._allocations.get(line)
        if found is None:
            # All threads use the array of the thread that stored one first.
            found = self._allocations.setdefault(line, np.empty(shape, dtype))
        return found


class _Thread(kernel.BlockThread):  # type: ignore[misc,unused-ignore]
    """A thread of a block, which blocks at a barrier instead of being polled."""

    def run(self) -> None:
        """Run the kernel, then leave the block."""
        try:
            super().run()
        finally:
            self._manager.leave(failed=self.exception is not None)

    def syncthreads(self) -> None:
        """Wait for the other threads of the block."""
        self._manager.meet()


class _Block(kernel.BlockManager):  # type: ignore[misc,unused-ignore]
    """A block whose threads meet at a barrier."""

    def run(self, grid_point: Any, *arguments: Any) -> None:
        """Run all threads of the block; raise what one of them has raised."""
        self._changed = threading.Condition()
        self._waiting = self._meetings = 0
        self._failed = False
        points = list(np.ndindex(*self._block_dim))
        self._alive = len(points)
        threads = [
            _Thread(lambda: self._f(*arguments), self, grid_point, point, self._debug)
            for point in points
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # The failure itself first: threads that it stopped only report that they were stopped.
        faults = [thread.exception for thread in threads if thread.exception]
        for kind, trace in sorted(faults, key=lambda fault: isinstance(fault[0], _Stopped)):
            raise kind.with_traceback(trace)

    def meet(self) -> None:
        """Wait until all threads that still run have come here."""
        with self._changed:
            meeting = self._meetings
            self._waiting += 1
            self._go_on()
            self._changed.wait_for(lambda: self._meetings > meeting or self._failed)
            if self._failed:
                raise _Stopped("another thread of the block has failed")

    def leave(self, *, failed: bool) -> None:
        """Remove a thread from the block, which no longer waits for it."""
        with self._changed:
            self._alive -= 1
            self._failed |= failed
            self._go_on()

    def _go_on(self) -> None:
        if self._waiting == self._alive or self._failed:
            self._waiting = 0
            self._meetings += 1
            self._changed.notify_all()


class _Stopped(RuntimeError):
    """A thread was waiting when another one failed."""


kernelapi.FakeCUDAShared = _Shared
kernel.BlockManager = _Block


def device_array(array: Any) -> Any:
    """Return what the simulator takes for a device array.

    The simulator copies every NumPy argument back after a launch, even read-only ones.
    """
    return FakeCUDAArray(np.asarray(array))
