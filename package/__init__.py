"""Streaming inference for the trigger level of particle detectors.

The names below are all that a script or a notebook needs. Authors of stages, monitors, sources and
sinks import `sluice.pipeline.api` beside them. Nothing else is imported before it is used.

Examples
--------
>>> import sluice
>>> kept = sluice.run("compress", "w.arrows")  # doctest: +SKIP
>>> kept.to_awkward()  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.pipeline.config.graph_file import load_graph as load_graph
    from sluice.pipeline.tools.in_memory_run import run as run
    from sluice.pipeline.tools.result import Result as Result
    from sluice.pipeline.tools.result import read as read

    __version__: str

__all__ = ["Result", "__version__", "load_graph", "read", "run"]

#: Where each public name is defined; imported when it is first used.
_MODULES = {
    "Result": "sluice.pipeline.tools.result",
    "load_graph": "sluice.pipeline.config.graph_file",
    "read": "sluice.pipeline.tools.result",
    "run": "sluice.pipeline.tools.in_memory_run",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `import sluice` alone takes milliseconds."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("sluice-daq")
    elif name in _MODULES:
        found = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, also those that were not used yet."""
    return sorted({*globals(), *__all__})
