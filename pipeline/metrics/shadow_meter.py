"""Meter of a shadow: overlap of its decisions with those of production, in shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.kernels.counting import PATHS, count_overlap
from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.schema import Array

#: A meter is a row of uint64: these counters, then three for each path, then the first error in
#: UTF-8.
_SEEN, _DROPPED, _SKIPPED, _ERRORS, _BOTH, _GAINED, _LOST = range(7)
#: Words before the counters of the paths, and before the error; maximum length of the error, bytes.
_PATHS = 8
_REASON = _PATHS + 3 * PATHS
_REASON_BYTES = 512
#: Counters of a path, as the report names them.
_OVERLAPS = ("both", "only_production", "only_shadow")
#: Length of a meter in words of 8 bytes.
WORDS = _REASON + _REASON_BYTES // 8


class ShadowMeter:
    """Meter of one shadow in one process.

    Parameters
    ----------
    row
        Row of a `MeterBlock`, uint64, at least `WORDS` long.
    """

    def __init__(self, row: Array) -> None:
        self._row = row
        self._paths: Array = row[_PATHS:_REASON].view(np.int64).reshape(PATHS, 3)
        self._reason: Array = row[_REASON:WORDS].view(np.uint8)

    def record(self, values: Array) -> None:
        """Do nothing: a shadow returns no values for a histogram."""

    def drop(self, events: int) -> None:
        """Count sampled events that the shadow did not process because it was busy."""
        self._row[_DROPPED] += np.uint64(events)

    def skip(self, events: int) -> None:
        """Count sampled events that the shadow did not process because it is off."""
        self._row[_SKIPPED] += np.uint64(events)

    def fail(self, reason: str) -> None:
        """Count an error; the message of the first one is kept."""
        if not self._row[_ERRORS]:
            text = np.frombuffer(reason.encode()[:_REASON_BYTES], np.uint8)
            self._reason[: len(text)] = text
        self._row[_ERRORS] += np.uint64(1)

    def compare(self, decision: Array, outcome: Array, shadow: tuple[Array, Array]) -> None:
        """Count events by the decisions of production and shadow.

        Parameters
        ----------
        decision, outcome
            Production: path bits, uint64 (N,), and `Outcome`, uint8 (N,).
        shadow
            Decision and outcome of the shadow, for the same events.
        """
        count_overlap(decision, shadow[0], self._paths)
        accepted, by_shadow = outcome == Outcome.ACCEPTED, shadow[1] == Outcome.ACCEPTED
        both = int(np.count_nonzero(accepted & by_shadow))
        self._row[_SEEN] += np.uint64(len(decision))
        self._row[_BOTH] += np.uint64(both)
        self._row[_GAINED] += np.uint64(int(np.count_nonzero(by_shadow)) - both)
        self._row[_LOST] += np.uint64(int(np.count_nonzero(accepted)) - both)


def shadow_overlap(rows: list[Array], paths: list[str]) -> dict[str, Any]:
    """Return the report's entry of one shadow.

    Parameters
    ----------
    rows
        Rows of its meters, one for each process.
    paths
        Names of the menu's paths, in the order of their bits.
    """
    total: list[int] = np.stack([row[:_REASON] for row in rows]).sum(axis=0).tolist()
    reasons = [row[_REASON:WORDS].tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]
    return {
        "seen": total[_SEEN],
        "dropped": total[_DROPPED] + total[_SKIPPED],
        "errors": total[_ERRORS],
        "off": next((reason for reason in reasons if reason), None),
        "accepted": {"both": total[_BOTH], "gained": total[_GAINED], "lost": total[_LOST]},
        "paths": {
            path: dict(zip(_OVERLAPS, total[_PATHS + 3 * bit :], strict=False))
            for bit, path in enumerate(paths)
        },
    }
