"""Rate of each GPU kernel as a share of the limit that this GPU's memory sets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Case

#: Bytes that one launch moves: many times a GPU's cache.
_BYTES = 1 << 29
_WARM, _LAUNCHES = 3, 10


def main() -> int:
    """Measure every kernel; 1 if one cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    gpu = Gpu()
    found: dict[str, Any] = {**gpu.about(), "kernels": []}
    for case in CASES:
        found["kernels"].append(measure(case, gpu))
        print(found["kernels"][-1], flush=True)
        options.json.write_text(json.dumps(found))
    return int(any(one["why"] for one in found["kernels"]))


class Gpu:
    """The first GPU, through numba."""

    def __init__(self) -> None:
        from numba import cuda

        self._cuda = cuda
        device = cuda.get_current_device()
        self.name = device.name.decode() if isinstance(device.name, bytes) else device.name
        # Two transfers a clock, in kHz; the width is in bits.
        self.peak = 2e3 * device.MEMORY_CLOCK_RATE * device.GLOBAL_MEMORY_BUS_WIDTH / 8

    def about(self) -> dict[str, Any]:
        """Return the GPU's name, its memory's peak and the rate of a copy, bytes per second."""
        one, other = (self._cuda.device_array(_BYTES, np.uint8) for _ in range(2))
        seconds = self.seconds(lambda: other.copy_to_device(one))
        return {"gpu": self.name, "peak_bytes_per_s": self.peak,
                "copy_bytes_per_s": 2 * _BYTES / seconds}  # fmt: skip

    def put(self, argument: Any) -> Any:
        """Return an argument as a kernel takes it."""
        return self._cuda.to_device(argument) if isinstance(argument, np.ndarray) else argument

    def seconds(self, launch: Callable[[], Any]) -> float:
        """Return the time of one launch, s."""
        for _ in range(_WARM):
            launch()
        begin, end = (self._cuda.event(timing=True) for _ in range(2))
        begin.record()
        for _ in range(_LAUNCHES):
            launch()
        end.record()
        end.synchronize()
        return float(self._cuda.event_elapsed_time(begin, end)) / 1e3 / _LAUNCHES


def measure(case: Case, gpu: Any) -> dict[str, Any]:
    """Return a kernel's rate, bytes per second, and its share of the memory's peak."""
    moved = case.bytes_per_event()
    events = int(min(case.max_events, _BYTES // moved))
    found = {"kernel": case.kernel, "why": "", "events": events, "bytes_per_event": moved}
    try:
        arguments = [gpu.put(argument) for argument in case.arguments(events)]
        call = case.call()
        seconds = gpu.seconds(lambda: call(*arguments))
    except Exception as error:  # one kernel must not hide the others
        return found | {"why": f"{type(error).__name__}: {error}"}
    return found | {
        "seconds": seconds,
        "rate_hz": events / seconds,
        "bytes_per_s": events * moved / seconds,
        "share_of_peak": events * moved / seconds / gpu.peak,
    }


if __name__ == "__main__":
    sys.exit(main())
