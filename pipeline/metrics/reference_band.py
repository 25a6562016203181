"""Reference bands: expected ranges of the recent means of monitors, from a reference run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sluice.pipeline.core.errors import ConfigError

from .meters import RECENT_VALUES
from .totals import MonitorTotals

#: Half the width of a band, in standard deviations of the difference of the two means: of
#: normally distributed means without drift, 6e-7 lie outside.
BAND_SIGMAS = 5.0
#: Smallest number of values for an alarm; the mean of a few values scatters too widely.
MIN_SAMPLES = 100


class ReferenceBand(NamedTuple):
    """Range in which the recent mean of a monitor should be.

    Attributes
    ----------
    low, high
        Limits, in the unit of the monitor's values.
    """

    low: float
    high: float

    def is_outside(self, total: MonitorTotals) -> bool:
        """Whether the recent mean is outside, and of at least `MIN_SAMPLES` values."""
        return total.n >= MIN_SAMPLES and not self.low <= total.recent <= self.high


def read_reference_bands(report: Path, monitors: list[str]) -> dict[str, ReferenceBand]:
    """Return the band of each monitor that has values in the report of a reference run.

    A band is the mean of the reference run, plus and minus five standard deviations of the
    difference between that mean and a mean of `RECENT_VALUES` values.

    Parameters
    ----------
    report
        Path of a run report, JSON.
    monitors
        Names of the monitors of the new run.

    Raises
    ------
    ConfigError
        If the file is no run report, or has values of none of the monitors.
    """
    try:
        content: dict[str, Any] = msgspec.json.decode(report.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"reference {report}: cannot read: {error}") from error
    bands = {}
    for name in monitors:
        values = content.get(name)
        if isinstance(values, dict) and isinstance(values.get("std"), float) and values.get("n", 0):
            half_width = BAND_SIGMAS * values["std"] * (1 / values["n"] + 1 / RECENT_VALUES) ** 0.5
            bands[name] = ReferenceBand(values["mean"] - half_width, values["mean"] + half_width)
    if not bands:
        raise ConfigError(
            f"reference {report}: expected a monitor of {monitors} with values, got none",
            hint="write it with `sluice replay … --report FILE` and the same graph",
        )
    return bands
