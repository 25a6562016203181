"""The disk of a simulated run, full for a while, and the run's record of the time it was paused."""

from __future__ import annotations

import errno
from typing import Any

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.schema import Array
from sluice.pipeline.journal.commit import CommitRecord
from sluice.pipeline.run.state import RunState
from sluice.pipeline.transport.run_messages import CommitAck

from .model import OUTPUTS
from .virtual_time import VirtualTime


class SimulatedDisk:
    """What was written, which stays when a sink ends, and until when there is no space.

    Attributes
    ----------
    records
        Commit record, event ids and values of each record batch, in the order of writing.
    refused
        Number of writes that failed for lack of space.
    """

    def __init__(self, clock: VirtualTime) -> None:
        self._clock, self._full_until_s = clock, 0.0
        self.records: list[tuple[CommitRecord, Array, Array]] = []
        self.refused = 0

    def fill(self, seconds: float) -> None:
        """Have no space for some seconds from now on."""
        self._full_until_s = max(self._full_until_s, self._clock.now_s + seconds)

    def require_space(self) -> None:
        """Raise OSError if there is no space."""
        if self._clock.now_s < self._full_until_s:
            self.refused += 1
            raise OSError(errno.ENOSPC, "no space left on the simulated disk")

    def check_acknowledged(self, ack: CommitAck) -> None:
        """Check that all batches of an acknowledgement are written."""
        written = self.records[-1][0].next if self.records else 0
        assert ack.first_seq + ack.batches <= written


class TimedRunState(RunState):
    """The state of a run, with the time for which it was paused by a full disk.

    Attributes
    ----------
    paused_s
        Time with a hold, s.
    changes
        How often a hold was added where there was none, or the last one was removed.
    """

    def __init__(self, clock: VirtualTime) -> None:
        super().__init__()
        self._clock, self._since_s = clock, 0.0
        self.paused_s, self.changes = 0.0, 0

    def add_hold(self, holder: str, reason: str) -> None:
        """Pause the run."""
        if not self.holds:
            self._since_s, self.changes = self._clock.now_s, self.changes + 1
        super().add_hold(holder, reason)

    def remove_hold(self, holder: str) -> None:
        """Let the run go on."""
        held = bool(self.holds)
        super().remove_hold(holder)
        if held and not self.holds:
            self.paused_s += self._clock.now_s - self._since_s
            self.changes += 1


class SimulatedSink:
    """What one process of the sink has of the disk; the disk stays when the process ends."""

    columns = OUTPUTS.names
    keep = "all"
    disk_full_timeout_s = 60.0
    max_group_delay_s = 0.02

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    def open(self, since: int | None) -> list[CommitRecord]:
        """Return the commit records from `since` on, and at least the last."""
        records = [record for record, _, _ in self._disk.records]
        if since is None:
            assert not records, "a restarted sink begins a new recording"
            return []
        return [record for record in records if record.next > since] or records[-1:]

    def write(self, batch: EventBatch, commit: CommitRecord) -> None:
        """Write kept events and their commit record; OSError if the disk is full."""
        self._disk.require_space()
        ids, values = batch["event_id"].copy(), batch["value"].copy()
        self._disk.records.append((commit, ids, values))

    def close(self, eor: dict[str, Any] | None) -> None:
        """Do nothing."""

    def describe(self) -> dict[str, Any]:
        """Return how many record batches were written."""
        return {"batches": len(self._disk.records)}
