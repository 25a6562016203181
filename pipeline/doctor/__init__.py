"""What a machine has and lacks for a run, each missing thing with the command that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct


class Status(StrEnum):
    """How a finding stands: a run works, works worse than it could, or does not work."""

    FINE = "fine"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes
    ----------
    group, name
        Where it belongs, and what it is.
    status
        Of what is in the group ``gpu``, an error is one for GPUs alone.
    found
        What was found.
    fix
        What to do about it, if anything: a command where one helps.
    """

    group: str
    name: str
    status: Status
    found: str
    fix: str = ""


GPU = "gpu"


class Diagnosis(Struct, frozen=True):
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def cpu_fit(self) -> bool:
        """Whether runs on the CPU work here."""
        return not any(f.status is Status.ERROR and f.group != GPU for f in self.findings)

    @property
    def gpu_fit(self) -> bool:
        """Whether runs on a GPU work here too."""
        return self.cpu_fit and not any(f.status is Status.ERROR for f in self.findings)

    def report(self) -> dict[str, Any]:
        """Return what `sluice doctor --json` prints."""
        return {
            "cpu_fit": self.cpu_fit,
            "gpu_fit": self.gpu_fit,
            "findings": [msgspec.to_builtins(finding) for finding in self.findings],
        }


def examine() -> Diagnosis:
    """Look at everything."""
    from . import backends, gpu, machine, packages

    looks = (machine.look, packages.look, backends.look, gpu.look)
    return Diagnosis(tuple(finding for look in looks for finding in look()))


def fine(group: str, name: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(group, name, Status.FINE, found)


def judged(group: str, name: str, found: str, fix: str, *, worse: Status, if_: bool) -> Finding:
    """Return a finding that asks for `fix` where `if_` holds."""
    return Finding(group, name, worse if if_ else Status.FINE, found, fix if if_ else "")


Findings = Iterator[Finding]
