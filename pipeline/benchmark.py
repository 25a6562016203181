"""Throughput of the engines as shares of the bare chain: kernels and models in a tight loop."""

from __future__ import annotations

from collections.abc import Callable

_BITS = 9
Measure = Callable[[], float]
