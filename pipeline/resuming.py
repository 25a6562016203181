"""Going on with a run that was killed: the same graph, and its source past what was committed."""

from __future__ import annotations

from typing import Any

import msgspec

from . import composition
from .account import Account
from .errors import ConfigError, DataError
from .journal import Commit
from .sources import Source

#: Tables of the graph file on which decisions and recordings depend.
_DECISIVE = ("graph", "source", "stages", "monitors", "sink")


def require_same(began: dict[str, Any], now: dict[str, Any], commit: Commit) -> None:
    """Refuse to go on with another graph, or other models, than the run began with.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    now = msgspec.json.decode(msgspec.json.encode(now))
    before, after = began.get("config", {}), now["config"]
    pairs = [(f"[{table}]", before.get(table), after.get(table)) for table in _DECISIVE]
    pairs += [(key, began.get(key), now[key]) for key in ("models", "paths", "menu")]
    differing = [name for name, one, other in pairs if one != other]
    if differing:
        raise ConfigError(
            f"cannot resume run {began.get('run')}: it began with another {', '.join(differing)}",
            hint="resume with the graph file, input and models that it began with",
        )
    epochs = [int(composition.unpack(s.composition)["epoch"].max(initial=0))
              for s in (commit.unpacked() if commit.summaries else [])]  # fmt: skip
    if any(epochs):
        raise ConfigError(
            f"cannot resume run {began.get('run')}: its models were swapped while it went on",
            hint="make a new run with the models that it had at the end",
        )


def skip(source: Source, events: int, most: int, account: Account) -> None:
    """Read past the events that were committed; what is no event is counted once more.

    Raises
    ------
    DataError
        If the source has fewer.
    """
    left = events
    while left:
        batch = source.read(min(left, most))
        if batch is None:
            raise DataError(
                f"cannot resume: expected the {events} events that the run had judged, "
                f"got {events - left}",
                hint="the input is not what it was",
            )
        left -= batch.events
        account.lose(source.losses(), "source")
