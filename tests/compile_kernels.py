"""Compile all kernels into numba's cache, once: else each tester would do so at the same time."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import sluice.kernels

if __name__ == "__main__":
    for module in pkgutil.walk_packages(sluice.kernels.__path__, "sluice.kernels."):
        if not module.name.startswith("sluice.kernels.cuda"):
            import_module(module.name)
