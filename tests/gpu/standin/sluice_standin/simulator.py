"""Lets numba's simulator follow streams: its kernels run when the stream comes to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import MACHINE, Op, Stream


class _External:
    """A stream of the stand-in, as a kernel's configuration has it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle


class _Configured:
    """A kernel with its grid and stream."""

    def __init__(self, kernel: Any, configuration: Any, launch: Callable[..., None]) -> None:
        self._kernel, self._configuration, self._launch = kernel, configuration, launch

    def __call__(self, *arguments: Any) -> None:
        spans = [(a.ctypes.data, a.nbytes) for a in arguments if isinstance(a, np.ndarray)]
        stream = MACHINE.get(self._configuration[2].handle, Stream)

        def work() -> None:
            for address, nbytes in spans:
                MACHINE.memory(address, nbytes, "device", "argument of a kernel")
            self._launch(self._kernel, self._configuration, arguments)

        MACHINE.submit(stream, Op("kernel", [], spans, lambda: work))


def follow_streams() -> None:
    """Change numba's simulator; a kernel without a stream of the stand-in runs at once, as ever."""
    from numba import cuda
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    configure = FakeCUDAKernel.__getitem__

    def launch(kernel: Any, configuration: Any, arguments: Any) -> None:
        configure(kernel, configuration)(*arguments)

    def getitem(self: Any, configuration: Any) -> Any:
        if len(configuration) > 2 and isinstance(configuration[2], _External):
            return _Configured(self, configuration, launch)
        return configure(self, configuration)

    FakeCUDAKernel.__getitem__ = getitem
    cuda.external_stream = _External
