"""All checks of a machine, with a command for each missing requirement."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from .finding import GPU, Finding, Status


class DoctorReport(Struct, frozen=True):
    """All findings on this machine."""

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
        """Return the output of `sluice doctor --json`."""
        return {
            "cpu_fit": self.cpu_fit,
            "gpu_fit": self.gpu_fit,
            "findings": [msgspec.to_builtins(finding) for finding in self.findings],
        }


def examine() -> DoctorReport:
    """Run all checks."""
    from . import backends, gpu, machine, packages

    checks = (
        machine.check_machine,
        packages.check_packages,
        backends.check_backends,
        gpu.check_gpu,
    )
    return DoctorReport(tuple(finding for check in checks for finding in check()))
