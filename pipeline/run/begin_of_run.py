"""The begin-of-run record: all that a run was made of, frozen before its first event."""

from __future__ import annotations

import hashlib
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.gpu.nvml import gpu_names
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.system.machine import processor

#: What may change a number, or how long it takes.
_PACKAGES = ("sluice-daq", "numpy", "numba", "llvmlite", "pyarrow", "pyzmq", "onnxruntime",
             "onnxruntime-gpu", "tensorrt-cu13")  # fmt: skip


def make_begin_of_run(config: GraphConfig, graph: Graph, run: int) -> dict[str, Any]:
    """Return the begin-of-run record.

    Parameters
    ----------
    config
        The graph file, with what the command line changed.
    graph
        Built from it: its models are those that judge first.
    run
        The run number.
    """
    judge = graph.decision_stage()
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    return {
        "run": run,
        "graph": config.graph.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_ns // 10**9)),
        "models": graph.models(),
        "paths": graph.paths(),
        "menu": judge.menu_info() if judge else None,
        "config": msgspec.to_builtins(config),
        "config_sha256": config_sha256(config),
        "software": installed_versions(),
        "host": {"name": platform.node(), "system": platform.platform(),
                 "machine": platform.machine(), "processor": processor(), "gpus": gpu_names()},
        # Read at the same instant: they turn t_ingest into a time of day.
        "clock": {"t_ingest": "CLOCK_MONOTONIC", "monotonic_ns": monotonic_ns, "unix_ns": wall_ns},
    }  # fmt: skip


def config_sha256(config: GraphConfig) -> str:
    """Return a hash of all that the graph file says; where the file lies does not matter.

    The order of keys does not matter either, nor do comments, nor whether a default is written
    down.
    """
    said = msgspec.to_builtins(config)
    del said["origin"]
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed and matter."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
