"""Check of Python and the packages that a run imports."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from .finding import Finding, Findings, Status, ok

_GROUP = "software"
_DISTRIBUTION = "sluice-daq"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_packages() -> Findings:
    """Yield the versions of installed packages, and the missing ones."""
    yield ok(_GROUP, "python", platform.python_version())
    yield ok(_GROUP, _DISTRIBUTION, version(_DISTRIBUTION))
    for name in _needed():
        found = installed(name)
        if found is None:
            yield Finding(_GROUP, name, Status.ERROR, "not installed", f"pip install {name}")
        else:
            yield ok(_GROUP, name, found)
    yield _runtime()


def installed(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _needed() -> list[str]:
    """Return the packages that every run needs."""
    lines = requires(_DISTRIBUTION) or []
    found = (_NAME.match(line) for line in lines if "extra ==" not in line)
    return [match[0] for match in found if match is not None]


def _runtime() -> Finding:
    """Return a finding on ONNX Runtime; its two packages overwrite each other's files."""
    found = {name: installed(name) for name in _RUNTIMES}
    there = [f"{name} {text}" for name, text in found.items() if text is not None]
    if len(there) == 1:
        return ok(_GROUP, "onnxruntime", there[0])
    if there:
        return Finding(
            _GROUP, "onnxruntime", Status.ERROR, f"{' and '.join(there)}: both own the same files",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then "
            f"pip install '{_DISTRIBUTION}[cpu]' or '{_DISTRIBUTION}[gpu]'",
        )  # fmt: skip
    return Finding(
        _GROUP, "onnxruntime", Status.ERROR, "not installed",
        f"pip install '{_DISTRIBUTION}[cpu]', with a GPU '{_DISTRIBUTION}[gpu]'",
    )  # fmt: skip
