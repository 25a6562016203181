"""Progress bars, on a terminal only: a log file gets none."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import Progress


def progress() -> Progress:
    """Return a bar on standard error that leaves nothing behind."""
    shown = sys.stderr.isatty()
    return Progress(console=Console(stderr=True), transient=True, disable=not shown)
