"""A reference run: the bands in which the recent means of later runs' monitors should stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sluice.pipeline.core.errors import ConfigError

from .meters import RECENT
from .totals import MonitorTotals

#: Half the width of a band, in standard deviations of the difference of the two means.
BAND_SIGMAS = 5.0
#: Fewer values than this raise no alarm.
MIN_SAMPLES = 100


class ReferenceBand(NamedTuple):
    """Where a recent mean should be."""

    low: float
    high: float

    def is_outside(self, total: MonitorTotals) -> bool:
        """Whether enough was seen, and its recent mean is outside."""
        return total.n >= MIN_SAMPLES and not self.low <= total.recent <= self.high


def read_reference_bands(report: Path, monitors: list[str]) -> dict[str, ReferenceBand]:
    """Return the band of each monitor that the report of the reference run knows.

    A band is the reference's mean, five standard deviations of the difference between that mean
    and one of 1000 values to either side.

    Parameters
    ----------
    report
        A run report, JSON.
    monitors
        Names of the monitors that run now.

    Raises
    ------
    ConfigError
        If the file is no run report, or knows none of the monitors.
    """
    try:
        content: dict[str, Any] = msgspec.json.decode(report.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"reference {report}: cannot read: {error}") from error
    bands = {}
    for name in monitors:
        seen = content.get(name)
        if isinstance(seen, dict) and isinstance(seen.get("std"), float) and seen.get("n", 0):
            reach = BAND_SIGMAS * seen["std"] * (1 / seen["n"] + 1 / RECENT) ** 0.5
            bands[name] = ReferenceBand(seen["mean"] - reach, seen["mean"] + reach)
    if not bands:
        raise ConfigError(
            f"reference {report}: expected a monitor of {monitors} with values, got none",
            hint="write it with `sluice replay … --report FILE` and the same graph",
        )
    return bands
