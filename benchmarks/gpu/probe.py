"""Probe for a GPU: exit code 0, or 8 and what is missing. Needs only Python."""

from __future__ import annotations

import ctypes
import sys

#: Exit code when this machine lacks something, as that of `sluice doctor`.
UNFIT = 8
LIBRARY = "libcuda.so.1"


def problem() -> str | None:
    """Return why no GPU can be used here, None where one can."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    count = ctypes.c_int(0)
    for call, arguments in (
        (driver.cuInit, (0,)),
        (driver.cuDeviceGetCount, (ctypes.byref(count),)),
    ):
        code = call(*arguments)
        if code:
            return f"the NVIDIA driver sees no GPU: CUDA error {code}"
    return None if count.value else "the NVIDIA driver sees no GPU"


def main() -> int:
    """Print the result; return the exit code."""
    why = problem()
    if why is None:
        return 0
    sys.stderr.write(
        f"gpu-check: {why}\n  It needs a machine with an NVIDIA GPU and driver 580 or later; "
        "`sluice doctor --gpu` tells more. Nothing was run.\n"
    )
    return UNFIT


if __name__ == "__main__":
    sys.exit(main())
