"""How the decisions of a shadow overlap with those that count, in memory that others may read."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.kernels.counting import PATHS, count_overlap
from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.schema import Array

#: A meter is a row of uint64: these numbers, then three for each path, then the reason in UTF-8.
_SEEN, _DROPPED, _UNSEEN, _ERRORS, _BOTH, _GAINED, _LOST = range(7)
_PATHS = 8
_REASON = _PATHS + 3 * PATHS
_REASON_BYTES = 512
#: Length of a meter.
WORDS = _REASON + _REASON_BYTES // 8


class ShadowMeter:
    """The meter of one shadow in one process.

    Parameters
    ----------
    row
        uint64, at least `WORDS` long.
    """

    def __init__(self, row: Array) -> None:
        self._row = row
        self._paths: Array = row[_PATHS:_REASON].view(np.int64).reshape(PATHS, 3)
        self._reason: Array = row[_REASON:WORDS].view(np.uint8)

    def record(self, values: Array) -> None:
        """A shadow has no values for a histogram."""

    def drop(self, events: int) -> None:
        """Count events that it did not get to see: it was busy."""
        self._row[_DROPPED] += np.uint64(events)

    def skip(self, events: int) -> None:
        """Count events that it did not see because it is off."""
        self._row[_UNSEEN] += np.uint64(events)

    def fail(self, reason: str) -> None:
        """Count an error and keep the first reason."""
        if not self._row[_ERRORS]:
            text = np.frombuffer(reason.encode()[:_REASON_BYTES], np.uint8)
            self._reason[: len(text)] = text
        self._row[_ERRORS] += np.uint64(1)

    def compare(self, decision: Array, outcome: Array, shadow: tuple[Array, Array]) -> None:
        """Count events that both have judged.

        Parameters
        ----------
        decision, outcome
            Of the models that count: path bits, uint64 (N,), and `Outcome`, uint8 (N,).
        shadow
            The same two of the shadow.
        """
        count_overlap(decision, shadow[0], self._paths)
        kept, would = outcome == Outcome.ACCEPTED, shadow[1] == Outcome.ACCEPTED
        both = int(np.count_nonzero(kept & would))
        self._row[_SEEN] += np.uint64(len(decision))
        self._row[_BOTH] += np.uint64(both)
        self._row[_GAINED] += np.uint64(int(np.count_nonzero(would)) - both)
        self._row[_LOST] += np.uint64(int(np.count_nonzero(kept)) - both)


def shadow_overlap(rows: list[Array], paths: list[str]) -> dict[str, Any]:
    """Return the report of one shadow.

    Parameters
    ----------
    rows
        Its meters, one a process.
    paths
        Names of the menu's paths, in the order of their bits.
    """
    total: list[int] = np.stack([row[:_REASON] for row in rows]).sum(axis=0).tolist()
    reasons = [row[_REASON:WORDS].tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]
    return {
        "seen": total[_SEEN],
        "dropped": total[_DROPPED] + total[_UNSEEN],
        "errors": total[_ERRORS],
        "off": next((reason for reason in reasons if reason), None),
        "accepted": {"both": total[_BOTH], "gained": total[_GAINED], "lost": total[_LOST]},
        "paths": {
            path: dict(zip(_VERDICTS, total[_PATHS + 3 * bit :], strict=False))
            for bit, path in enumerate(paths)
        },
    }


_VERDICTS = ("both", "only_production", "only_shadow")
