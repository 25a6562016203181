"""What numba's simulator needs to be relied on."""

import sys
from typing import Any

import numpy as np
from numba.cuda.simulator import kernelapi
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray


class _Shared(kernelapi.FakeCUDAShared):  # type: ignore[misc,unused-ignore]
    """Shared arrays, one for each line of a kernel that makes one.

    Of the simulator's own, two threads that come at once may get two: it looks first and stores
    later.
    """

    def array(self, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        """Return the array of the line that calls."""
        caller = sys._getframe(1)
        line = (caller.f_code, caller.f_lineno)
        found = self._allocations.get(line)
        if found is None:
            # Of all threads that come here the first one's array is everybody's.
            found = self._allocations.setdefault(line, np.empty(shape, dtype))
        return found


kernelapi.FakeCUDAShared = _Shared


def device_array(array: Any) -> Any:
    """Return what the simulator takes for a device array.

    It writes back whatever is an array of NumPy, if read-only or not.
    """
    return FakeCUDAArray(np.asarray(array))
