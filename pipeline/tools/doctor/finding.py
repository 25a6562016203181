"""One thing that was looked at on a machine, and how it stands."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

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


def ok(group: str, name: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(group, name, Status.FINE, found)


def graded(group: str, name: str, found: str, fix: str, *, worse: Status, if_: bool) -> Finding:
    """Return a finding that asks for `fix` where `if_` holds."""
    return Finding(group, name, worse if if_ else Status.FINE, found, fix if if_ else "")


Findings = Iterator[Finding]
