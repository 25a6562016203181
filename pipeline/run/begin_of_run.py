"""Begin-of-run record: graph, models, software and host of a run, before its first event."""

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

#: Packages whose version may change a result or a processing time.
_PACKAGES = ("sluice-daq", "numpy", "numba", "llvmlite", "pyarrow", "pyzmq", "onnxruntime",
             "onnxruntime-gpu", "tensorrt-cu13")  # fmt: skip


def make_begin_of_run(config: GraphConfig, graph: Graph, run: int) -> dict[str, Any]:
    """Return the begin-of-run record.

    Parameters
    ----------
    config
        Graph file, with the changes of the command line.
    graph
        Graph built from it; its models are those that the run begins with.
    run
        Run number.
    """
    menu = graph.decision_stage()
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    return {
        "run": run,
        "graph": config.graph.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_ns // 10**9)),
        "models": graph.models(),
        "paths": graph.paths(),
        "menu": menu.menu_info() if menu else None,
        "config": msgspec.to_builtins(config),
        "config_sha256": config_sha256(config),
        "software": installed_versions(),
        "host": {"name": platform.node(), "system": platform.platform(),
                 "machine": platform.machine(), "processor": processor(), "gpus": gpu_names()},
        # Both clocks at the same instant, to convert t_ingest to a time of day.
        "clock": {"t_ingest": "CLOCK_MONOTONIC", "monotonic_ns": monotonic_ns, "unix_ns": wall_ns},
    }  # fmt: skip


def config_sha256(config: GraphConfig) -> str:
    """Return the SHA-256 of the content of a graph file, 64 hexadecimal digits.

    The path of the file, the order of keys and comments do not change it, nor does a key that is
    written with its default value.
    """
    content = msgspec.to_builtins(config)
    del content["origin"]
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that may change a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
