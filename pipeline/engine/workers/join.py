"""Join request of a worker of another host, and ingest's reply: the payloads of JOIN and SPEC."""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.core.schema import Column
from sluice.pipeline.engine.model_swap import Swap

#: Clocks further apart than this are not set: one of the hosts does not know TAI, for instance.
_MOST_APART_NS = 1_000_000_000
_WILDCARDS = ("0.0.0.0", "*", "[::]", "::")


class JoinRequest(Struct, frozen=True):
    """A worker's first word.

    Attributes
    ----------
    host, pid
        Where it runs.
    """

    host: str
    pid: int


class JoinReply(Struct, frozen=True):
    """What ingest answers: enough to build the same graph again.

    Attributes
    ----------
    config, source, bor, models, epoch, swap, segment
        See `ProcessSpec`.
    results
        Where results go: the sink's endpoint as it listens there.
    tai_ns
        What ingest's CLOCK_TAI is ahead of its CLOCK_MONOTONIC.
    sent_ns
        Ingest's CLOCK_TAI as it spoke.
    silence_s
        A longer silence of ingest means that it is gone.
    """

    config: GraphConfig
    source: tuple[Column, ...]
    bor: dict[str, Any]
    models: dict[str, dict[str, str]]
    epoch: int
    swap: Swap | None
    segment: int
    results: str
    tai_ns: int
    sent_ns: int
    silence_s: float

    def check_clock(self) -> None:
        """Refuse to compare times if ingest's clock and ours are too far apart."""
        apart = time.clock_gettime_ns(time.CLOCK_TAI) - self.sent_ns
        if abs(apart) > _MOST_APART_NS:
            raise RunError(
                f"clocks: this host is {apart / 1e9:+.1f} s from ingest on CLOCK_TAI",
                hint="set both by PTP or NTP; a host that does not know TAI is 37 s behind",
            )


def tai_ahead_ns() -> int:
    """Return what CLOCK_TAI is ahead of CLOCK_MONOTONIC on this host, ns."""
    before = time.monotonic_ns()
    tai = time.clock_gettime_ns(time.CLOCK_TAI)
    return tai - (before + time.monotonic_ns()) // 2


def reachable_endpoint(hub: str, results: str) -> str:
    """Return the sink's endpoint for a worker that reaches ingest at `hub`.

    Examples
    --------
    >>> reachable_endpoint("tcp://daq7:5561", "tcp://0.0.0.0:5562")
    'tcp://daq7:5562'
    >>> reachable_endpoint("tcp://daq7:5561", "tcp://10.1.0.3:5562")
    'tcp://10.1.0.3:5562'
    """
    host, _, port = results.removeprefix("tcp://").rpartition(":")
    if not host or not port:
        raise ConfigError(f"results: expected tcp://HOST:PORT, got {results!r}")
    if host in _WILDCARDS:
        host = hub.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{port}"
