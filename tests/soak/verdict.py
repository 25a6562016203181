"""Was the run right? Each check by name, with what it found."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.pipeline.recording import Recording

from .growth import grown
from .stand import IDS, Stand

#: Outcomes of events that were processed; the sink of the soak keeps them all.
_DECIDED = ("accepted", "rejected", "prescaled")


def read_ids(stand: Stand) -> tuple[np.ndarray, str | None]:
    """Return the event ids in the run's recording, and what is wrong with the file."""
    reader = Recording(stand.recording)
    try:
        found = [batch["event_id"].copy() for batch in reader.batches()]
    finally:
        reader.close()
    return np.concatenate([np.empty(0, np.uint64), *found]), reader.corruption


def missing(stand: Stand, ids: np.ndarray) -> dict[str, int]:
    """Return the number of events of each front end that it sent and that are not recorded.

    A front end that dropped events tells how many, not which.
    """
    found = {}
    for one in stand.sent:
        first, made = one["first_id"], one["events"] + one["dropped"]
        own = np.unique(ids[(ids >= first) & (ids < first + made)])
        if len(own) != one["events"]:
            found[str(first // IDS)] = one["events"] - len(own)
    return found


def failed(injected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the faults that did not come to pass: a soak without them shows nothing."""
    answers = ("said", "pause", "resume")
    return [
        fault
        for fault in injected
        if "skipped" in fault or any(fault.get(answer, "done") != "done" for answer in answers)
    ]


def evaluate(
    stand: Stand,
    report: dict[str, Any],
    growth: dict[str, Any],
    injected: list[dict[str, Any]],
    replayed: dict[str, Any],
    wrong: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """Return check to {"good": bool, "found": what}.

    Parameters
    ----------
    stand
        What ran.
    report
        Report of the live run.
    growth
        Of its processes.
    injected
        Faults, and what came of each.
    replayed
        Report of the replay.
    wrong
        Events of each recording that are not what they should be, by column.
    """
    swaps = [fault["to"] for fault in injected if fault["fault"] == "swap"]
    events = report["events"]
    ids, damage = read_ids(stand)
    sent = sum(one["events"] for one in stand.sent)
    dropped = sum(one["dropped"] for one in stand.sent)
    checks = {
        "the run ended well": (report["state"] == "STOPPED", report["error"]),
        "the ledger closes": (report["closed"], events),
        "every event sent is in the ledger": (
            events["offered"] == sent + dropped + stand.claimed_events,
            {"sent": sent, "dropped": dropped, "claimed": stand.claimed_events},
        ),
        "lost is what front ends dropped": (events["lost"] == dropped, events["lost"]),
        "invalid is what mismatched messages claimed": (
            events["invalid"] == stand.claimed_events,
            events["invalid"],
        ),
        "nothing failed": (events["failed"] == 0, events["failed"]),
        "the recording is whole": (damage is None, damage),
        "no event is recorded twice": (len(np.unique(ids)) == len(ids), len(ids)),
        "recorded is decided": (
            len(ids) == sum(events[kind] for kind in _DECIDED) == report["output"]["events"] > 0,
            {"recorded": len(ids), "decided": {kind: events[kind] for kind in _DECIDED}},
        ),
        "every event sent is recorded": (not missing(stand, ids), missing(stand, ids)),
        "every recorded event is right": (not wrong["live"], wrong["live"]),
        "the replay ended well": (
            replayed["state"] == "STOPPED" and replayed["closed"],
            (replayed["state"], replayed["error"], replayed["events"]),
        ),
        "every event of the replay is recorded": (
            replayed["events"]["offered"] == replayed["output"]["events"] == stand.replay.events,
            replayed["events"],
        ),
        "every replayed event is right": (not wrong["replay"], wrong["replay"]),
        "every fault came to pass": (not failed(injected), failed(injected)),
        "every swap is in the report": (
            [swap["to"]["name"] for swap in report["swaps"]] == swaps,
            report["swaps"],
        ),
        "nothing grows": (not grown(growth), grown(growth)),
    }
    return {name: {"good": bool(good), "found": found} for name, (good, found) in checks.items()}
