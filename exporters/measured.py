"""Where measured data is: ``SLUICE_DATA``, or the folder beside the project."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Return the folder of measured data; it need not be there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("SLUICE_DATA", beside))
