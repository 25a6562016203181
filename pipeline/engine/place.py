"""What differs for a worker beside ingest and for one on another host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

import msgspec

from ..batch import T_INGEST, EventBatch
from ..chain import Chain
from ..errors import RunError
from ..graph import Graph
from ..keys import Credentials
from ..metrics import MeterBlock
from ..transport import Socket
from ..wire import Header, Summary
from .spec import Spec


class Place(Protocol):
    """Where a worker runs."""

    def meters(self, graph: Graph) -> MeterBlock:
        """Return where it counts."""

    def outlet(self) -> Socket:
        """Return the way to the sink."""

    def pulse(self) -> list[bytes]:
        """Return the payload of a heartbeat."""

    def hear(self) -> None:
        """Note that ingest has spoken."""

    def deserted(self) -> bool:
        """Whether ingest is gone."""

    def judge(self, chain: Chain, batch: EventBatch, header: Header) -> tuple[EventBatch, Summary]:
        """Run a chain on a batch that `header` brought."""


class Here:
    """Beside ingest: its child, with its clock and its memory."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def meters(self, graph: Graph) -> MeterBlock:
        """Return memory that ingest reads too."""
        path = Path(self._spec.meters)
        return MeterBlock(*graph.meter_names(), path, shadows=graph.shadow_names())

    def outlet(self) -> Socket:
        """Return a Unix socket."""
        return Socket(self._spec.outlet, self._spec.name)

    def pulse(self) -> list[bytes]:
        """Return nothing: being heard is enough."""
        return []

    def hear(self) -> None:
        """Nothing to note."""

    def deserted(self) -> bool:
        """Whether the parent process is another."""
        return self._spec.orphaned()

    def judge(self, chain: Chain, batch: EventBatch, header: Header) -> tuple[EventBatch, Summary]:
        """Run the chain; the batch waits since it was sent."""
        return chain.run(batch, header.t_sent, rung=header.aux & 0xFF, epoch=header.aux >> 8)


class Away:
    """On another host: with a clock of its own, heard by messages alone.

    Parameters
    ----------
    spec
        What to run.
    keys
        For the way to the sink.
    ahead_ns
        What this host's CLOCK_MONOTONIC is ahead of ingest's, by CLOCK_TAI.
    silence_s
        A longer silence of ingest means that it is gone.
    """

    def __init__(
        self, spec: Spec, keys: Credentials | None, ahead_ns: int, silence_s: float
    ) -> None:
        self._spec = spec
        self._keys = keys
        self._ahead_ns = ahead_ns
        self._silence_s = silence_s
        self._heard_s = time.monotonic()
        self._block: MeterBlock | None = None

    def meters(self, graph: Graph) -> MeterBlock:
        """Return memory of this process; heartbeats carry it."""
        self._block = MeterBlock(*graph.meter_names(), shadows=graph.shadow_names())
        return self._block

    def outlet(self) -> Socket:
        """Return a TCP socket."""
        return Socket(self._spec.outlet, self._spec.name, security=self._keys)

    def pulse(self) -> list[bytes]:
        """Return the meters."""
        return [] if self._block is None else [self._block.rows.tobytes()]

    def hear(self) -> None:
        """Note the time."""
        self._heard_s = time.monotonic()

    def deserted(self) -> bool:
        """Raise RunError if nothing was heard for too long."""
        if time.monotonic() - self._heard_s > self._silence_s:
            raise RunError(
                f"nothing heard of ingest for {self._silence_s:g} s",
                hint="the run has ended without a word, or the network is cut; join again",
            )
        return False

    def judge(self, chain: Chain, batch: EventBatch, header: Header) -> tuple[EventBatch, Summary]:
        """Run the chain in this host's time; what goes back is in ingest's.

        The wait for the first stage counts from the arrival here: the network is no stage's.
        """
        ahead, name = self._ahead_ns, T_INGEST.name
        if name in batch:
            batch = batch.with_columns(**{name: batch[name] + ahead})
        now = time.monotonic_ns()
        kept, summary = chain.run(batch, now, rung=header.aux & 0xFF, epoch=header.aux >> 8)
        if name in kept:
            kept = kept.with_columns(**{name: kept[name] - ahead})
        return kept, msgspec.structs.replace(summary, t_decided=summary.t_decided - ahead)
