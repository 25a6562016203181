"""Join request of a worker of another host, and ingest's reply: the payloads of JOIN and SPEC."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from sluice.pipeline.config.graph_file import GraphConfig
from sluice.pipeline.core.errors import ConfigError, RunError
from sluice.pipeline.core.schema import Column
from sluice.pipeline.engine.model_swap import Swap
from sluice.pipeline.transport.protocol import unpack_json

#: Largest accepted difference between the clocks of two hosts, ns. A larger one means that a clock
#: is not synchronised, or that a host does not know the offset of TAI (37 s).
_MAX_CLOCK_DIFFERENCE_NS = 1_000_000_000
#: Hosts of an endpoint that listens on all interfaces; nobody can connect to them.
_WILDCARDS = ("0.0.0.0", "*", "[::]", "::")


class JoinRequest(Struct, frozen=True):
    """First message of a worker that wants to join.

    Attributes
    ----------
    name
        Name of the worker, unique in the run.
    host
        Host name of the worker.
    pid
        Process id of the worker.
    started_ns
        Time when the worker started, ns of CLOCK_TAI: of two of one name the newer one works.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    host: str
    pid: int
    started_ns: int


class JoinReply(Struct, frozen=True, kw_only=True):
    """Reply of ingest to a join request, with which the worker builds the same graph.

    Attributes
    ----------
    session
        Session number of the worker.
    config
        Graph configuration.
    source
        Columns of the source.
    bor
        Begin-of-run record.
    models
        Name, version, sha256 and backend of the model of each stage of `config`.
    epoch
        Model epoch at the time of the reply.
    swap
        Swap that leads from the models of `config` to `epoch`; None if `config` has them already.
    segment
        Segment of the chain that the worker shall run.
    results
        Endpoint on which the sink listens for results; its host may be a wildcard.
    tai_offset_ns
        CLOCK_TAI minus CLOCK_MONOTONIC on the host of ingest, ns.
    sent_ns
        CLOCK_TAI of ingest when it sent the reply, ns.
    timeout_s
        Time without a message after which ingest counts as lost, s.
    """

    session: Annotated[int, Meta(ge=1, lt=2**32)]
    config: GraphConfig
    source: tuple[Column, ...]
    bor: dict[str, Any]
    models: dict[str, dict[str, str]]
    epoch: int
    swap: Swap | None
    segment: int
    results: str
    tai_offset_ns: int
    sent_ns: int
    timeout_s: float

    def check_clock(self) -> None:
        """Raise RunError if the clocks of ingest and of this host are too far apart."""
        apart = time.clock_gettime_ns(time.CLOCK_TAI) - self.sent_ns
        if abs(apart) > _MAX_CLOCK_DIFFERENCE_NS:
            raise RunError(
                f"clocks: this host is {apart / 1e9:+.1f} s from ingest on CLOCK_TAI",
                hint="set both by PTP or NTP; a host that does not know TAI is 37 s behind",
            )


def refusal(payload: Sequence[memoryview]) -> str:
    """Return the reason in the payload of an ERROR of ingest."""
    return unpack_json(payload, dict[str, str], "ERROR").get("message", "it does not say why")


def tai_offset_ns() -> int:
    """Return CLOCK_TAI minus CLOCK_MONOTONIC of this host, ns."""
    before = time.monotonic_ns()
    tai = time.clock_gettime_ns(time.CLOCK_TAI)
    return tai - (before + time.monotonic_ns()) // 2


def reachable_endpoint(ingest: str, results: str) -> str:
    """Return the sink's endpoint for a worker that reaches ingest at `ingest`.

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
        host = ingest.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{port}"
