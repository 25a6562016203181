"""Snapshot of the numbers of a run, for the report, HTTP and Prometheus."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sluice.pipeline.metrics.reference_band import ReferenceBand
from sluice.pipeline.metrics.totals import MonitorTotals, StageTotals, stage_report

from .latency import LatencyTotals


class RunSnapshot(Struct, frozen=True, kw_only=True):
    """The numbers of a run at one time; no later event changes them.

    Attributes
    ----------
    graph
        Name of the graph.
    run
        Run number.
    events
        Number of events by key of the report: ``offered`` and one for each outcome but OPEN.
    ended
        Whether the run has ended; until then its numbers need not add up.
    closed
        Whether every offered event has an outcome and every nanosecond a state, and at the end of
        the run also whether input, clock and sink have counted the same.
    seconds
        ``wall`` and the seconds in each `RunTime`.
    resumed_events, resumed_batches
        Events and batches committed by previous attempts of the run; None if it was not resumed.
    in_flight
        Number of batches between source and sink.
    latency
        Time from ingest to decision.
    event_latency
        Time from the event to the decision; None if no front end stamps events with Unix time.
    stages, monitors
        Meters by name, added over the workers.
    shadows
        The report's entry of each shadow by name.
    paths
        Number of accepted events by path of the menu; one that several paths keep counts in each.
    pass_through
        Number of accepted events that no path keeps, but pass-through.
    models
        Name, version, sha256 and backend of the model of each stage.
    swaps
        The report's entry of each model swap, in order.
    rung, rung_events, rung_seconds
        Current rung of the ladder; events and seconds by rung.
    bypassed
        Names of the stages that do not run because the source has their columns.
    bands
        Reference band of each monitor that the reference run knows; empty without one.
    quarantine
        The report's ``quarantine``.
    restarts
        Number of restarts by process.
    protocol_errors
        Number of messages that broke the protocol.
    refused_connections
        Number of connections without an allowed key.
    remote_workers
        Number of workers of other hosts that have been ready at any time.
    components
        Entries that stages add to the report.
    """

    graph: str
    run: int
    events: dict[str, int]
    ended: bool
    closed: bool
    seconds: dict[str, float]
    resumed_events: int | None
    resumed_batches: int | None
    in_flight: int
    latency: LatencyTotals
    event_latency: LatencyTotals | None
    stages: dict[str, StageTotals]
    monitors: dict[str, MonitorTotals]
    shadows: dict[str, dict[str, Any]]
    paths: dict[str, int]
    pass_through: int
    models: dict[str, dict[str, str]]
    swaps: list[dict[str, Any]]
    rung: int
    rung_events: list[int]
    rung_seconds: list[float]
    bypassed: list[str]
    bands: dict[str, ReferenceBand]
    quarantine: dict[str, Any]
    restarts: dict[str, int]
    protocol_errors: int
    refused_connections: int
    remote_workers: int
    components: dict[str, Any]

    @property
    def settled(self) -> int:
        """Number of events that have an outcome."""
        return sum(self.events.values()) - self.events["offered"]

    @property
    def rate_hz(self) -> float:
        """Events settled per second by this attempt of the run."""
        wall_s = self.seconds["wall"]
        return (self.settled - (self.resumed_events or 0)) / wall_s if wall_s else 0.0

    @property
    def monitors_out_of_band(self) -> list[str]:
        """Names of the monitors whose recent mean has left the band of the reference run."""
        return [
            name
            for name, band in self.bands.items()
            if name in self.monitors and band.is_outside(self.monitors[name])
        ]

    def report(self) -> dict[str, Any]:
        """Return the run report without the keys that are known at the end of the run only.

        ``closed`` is one of them: it is there as soon as the run has ended.
        """
        resumed = {"events": self.resumed_events, "batches": self.resumed_batches}
        ladder = {"rung": self.rung, "events": self.rung_events, "seconds": self.rung_seconds}
        report: dict[str, Any] = {
            "graph": self.graph,
            "run": self.run,
            "events": self.events,
            **({"closed": self.closed} if self.ended else {}),
            "seconds": self.seconds,
            "resumed": None if self.resumed_events is None else resumed,
            "rate_hz": self.rate_hz,
            "latency_s": self.latency.report(),
            "event_latency_s": self.event_latency and self.event_latency.report(),
            "stages": stage_report(self.stages),
            "paths": self.paths,
            "pass_through": self.pass_through,
            "models": self.models,
            "swaps": self.swaps,
            "shadows": self.shadows,
            "ladder": ladder,
            "bypassed": self.bypassed,
            "quarantine": self.quarantine,
            "restarts": self.restarts,
            "protocol_errors": self.protocol_errors,
            "refused_connections": self.refused_connections,
            "remote_workers": self.remote_workers,
        }
        out_of_band = self.monitors_out_of_band
        for name, total in self.monitors.items():
            band = self.bands.get(name)
            alarm = {"band": band, "alarm": name in out_of_band} if band else {}
            report[name] = {**total.report(), **alarm}
        return report | self.components
