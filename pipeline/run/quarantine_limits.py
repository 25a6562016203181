"""Limits of a quarantine: the first rows of each reason, then a rate, and never too many bytes."""

from __future__ import annotations

#: Rows and bytes of each reason that are kept whatever the rate.
FIRST_ROWS, FIRST_BYTES = 10_000, 16 << 20
#: Rate at which rows are kept after those, bytes per second, over all reasons.
RATE_BYTES_PER_S = 256 << 10
#: Bytes of the whole file. Rows that the rate lets in may fill half of it, so that a reason that
#: comes up late finds space for its first rows.
MAX_BYTES = 1 << 30


class QuarantineLimits:
    """Decides which rows are kept.

    Attributes
    ----------
    bytes
        Bytes of the rows that were kept.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._first: dict[str, tuple[int, int]] = {}
        self._next_s = 0.0

    def admits(self, reason: str, now_s: float) -> bool:
        """Whether the next row of a reason is kept.

        Parameters
        ----------
        reason
            One of a bounded number of reasons.
        now_s
            Time, s of CLOCK_MONOTONIC.
        """
        if self.bytes >= MAX_BYTES:
            return False
        return self._is_first(reason) or (now_s >= self._next_s and self.bytes < MAX_BYTES // 2)

    def add(self, reason: str, size: int, now_s: float) -> None:
        """Record a row of `size` bytes that is kept."""
        self.bytes += size
        if self._is_first(reason):
            rows, total = self._first.get(reason, (0, 0))
            self._first[reason] = rows + 1, total + size
        else:
            self._next_s = max(self._next_s, now_s) + size / RATE_BYTES_PER_S

    def _is_first(self, reason: str) -> bool:
        rows, size = self._first.get(reason, (0, 0))
        return rows < FIRST_ROWS and size < FIRST_BYTES
