"""What is injected and when: the same seed gives the same schedule."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

#: Quiet time at the beginning, for the memory to settle, and at the end, to recover.
QUIET_S = (10.0, 10.0)
#: Between two faults.
GAP_S = (3.0, 9.0)
WORKERS = 2
#: Time without a message after which a worker counts as gone.
HANG_TIMEOUT_S = 5.0
GARBAGE = ("noise", "version", "early", "huge", "tcp", "mismatch")


class Fault(NamedTuple):
    """One fault: when it begins, what it is, and its particulars."""

    at_s: float
    kind: str
    detail: dict[str, Any]


def _detail(kind: str, draw: random.Random) -> dict[str, Any]:
    if kind == "kill worker":
        return {"worker": f"compute-{draw.randrange(WORKERS)}"}
    if kind == "stall remote worker":  # HANG_TIMEOUT_S lies between
        return {"seconds": round(draw.uniform(1.0, 9.0), 2)}
    if kind.startswith("stall") or kind in ("full disk", "pause"):
        return {"seconds": round(draw.uniform(0.5, 3.0), 2)}
    if kind == "burst":
        return {"seconds": round(draw.uniform(1.0, 3.0), 2), "times": 10}
    if kind == "garbage":
        return {"what": draw.choice(GARBAGE), "messages": draw.randint(1, 20),
                "seed": draw.randrange(2**32)}  # fmt: skip
    return {}


def make_schedule(seed: int, seconds: float, kinds: tuple[str, ...]) -> list[Fault]:
    """Return faults in order of time; each kind comes once before any comes again."""
    draw = random.Random(seed)
    faults: list[Fault] = []
    waiting: list[str] = []
    at = QUIET_S[0]
    while (at := at + draw.uniform(*GAP_S)) < seconds - QUIET_S[1]:
        if not waiting:
            waiting = draw.sample(kinds, len(kinds))
        kind = waiting.pop()
        fault = Fault(round(at, 2), kind, _detail(kind, draw))
        faults.append(fault)
        at += fault.detail.get("seconds", 0.0)
    return faults
