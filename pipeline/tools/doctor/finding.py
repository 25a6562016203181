"""Result of one check of a machine."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    """Severity of a finding: runs work, work worse than they could, or do not work."""

    FINE = "fine"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True):
    """Result of one check.

    Attributes
    ----------
    group, name
        Group and name of the check.
    status
        Result; an error in the group ``gpu`` concerns runs on GPUs only.
    found
        Value that was found.
    fix
        Advice or command for the user; empty if no action is needed.
    """

    group: str
    name: str
    status: Status
    found: str
    fix: str = ""


GPU = "gpu"


def ok(group: str, name: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(group, name, Status.FINE, found)


def graded(group: str, name: str, found: str, fix: str, *, worse: Status, if_: bool) -> Finding:
    """Return a finding of status `worse` with `fix` if `if_` is true, else of status FINE."""
    return Finding(group, name, worse if if_ else Status.FINE, found, fix if if_ else "")


Findings = Iterator[Finding]
