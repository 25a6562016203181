"""Checks the account of an ended run against what its clock, its input and its sink counted.

The account is kept by the engine. What is compared with it is counted by other code: a fault in one
of them shows, where sums over a single book always add up.
"""

from __future__ import annotations

from msgspec import Struct

from sluice.pipeline.core.batch import Outcome

from .snapshot import RunSnapshot

#: Largest difference of two sums of the same seconds, s: each is the sum of five rounded numbers,
#: of which none is off by as much as a tenth of this in runs of up to ten years.
_ROUNDING_S = 1e-6
#: Outcomes that an event can have only in a batch that the sink commits.
_DECIDED = (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.PRESCALED)


class OtherCounts(Struct, frozen=True, kw_only=True):
    """What others than the account counted in a run that has ended.

    Attributes
    ----------
    duration_s
        Time from the start of the main loop to its end, s.
    input_events
        Number of events that the input says it has; None if it does not say, or was not read whole.
    committed
        Number of events by `Outcome` in the batches that the sink committed; None if not known.
    recorded, kept
        Number of events in the recording, and whether those are ``accepted`` or ``all``; None if
        the sink writes no recording.
    """

    duration_s: float
    input_events: int | None = None
    committed: list[int] | None = None
    recorded: int | None = None
    kept: str | None = None


def find_differences(snapshot: RunSnapshot, others: OtherCounts) -> list[str]:
    """Return in words what the account and others count differently; nothing if all agree."""
    return [*_of_time(snapshot, others), *_of_input(snapshot, others), *_of_sink(snapshot, others)]


def _of_time(snapshot: RunSnapshot, others: OtherCounts) -> list[str]:
    spent_s = sum(seconds for state, seconds in snapshot.seconds.items() if state != "wall")
    if abs(spent_s - others.duration_s) <= _ROUNDING_S:
        return []
    return [f"the run took {others.duration_s:.6f} s, its states have {spent_s:.6f} s"]


def _of_input(snapshot: RunSnapshot, others: OtherCounts) -> list[str]:
    offered = snapshot.events["offered"]
    if others.input_events in (None, offered):
        return []
    return [f"the input has {others.input_events} events, {offered} were offered"]


def _of_sink(snapshot: RunSnapshot, others: OtherCounts) -> list[str]:
    committed = others.committed
    if committed is None:
        return []
    found = [
        f"the sink committed {committed[outcome]} {name} events, counted are {counted}"
        for outcome in _DECIDED
        if (counted := snapshot.events[name := outcome.name.lower()]) != committed[outcome]
    ]
    due = sum(committed) if others.kept == "all" else committed[Outcome.ACCEPTED]
    if others.recorded not in (None, due):
        found.append(f"the recording has {others.recorded} events, {due} were committed for it")
    return found
