"""Prometheus metrics of a run, collected at a scrape from a snapshot of its accounting."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sluice.kernels.histogram import edges
from sluice.pipeline.core.schema import Array
from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import CLASSES, RunTime
from sluice.pipeline.run.snapshot import RunSnapshot
from sluice.pipeline.run.state import USERS, RunState, State
from sluice.pipeline.stages.capabilities import HasLadder

_UPPER_S = edges()
#: Bucket edges that are exposed: four of the 32 edges of each octave.
_SHOWN = np.arange(7, len(_UPPER_S), 8)


class RunCollector(Collector):
    """Collects the metrics of the current or latest run, for prometheus_client.

    Parameters
    ----------
    now
        Returns the accounting of the run, None before the first one, and its state.
    """

    def __init__(self, now: Callable[[], tuple[RunAccounting | None, RunState]]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the run."""
        accounting, control = self._now()
        yield from _states(control)
        if accounting is not None:
            yield from _SnapshotMetrics(accounting.graph, accounting.snapshot()).collect()


def _states(control: RunState) -> Iterator[Metric]:
    states = GaugeMetricFamily("sluice_run_state", "1 for the run's state.", labels=["state"])
    for state in State:
        states.add_metric([state.value], control.state is state)
    yield states
    yield GaugeMetricFamily(
        "sluice_run_paused", "Whether nothing is read.", value=float(control.paused)
    )
    alarms = GaugeMetricFamily("sluice_alarm", "What holds the run by itself.", labels=["cause"])
    for who in control.holds:
        if who != USERS:
            alarms.add_metric([who], 1)
    yield alarms


class _SnapshotMetrics:
    """Metrics of one snapshot."""

    def __init__(self, graph: Graph, now: RunSnapshot) -> None:
        self._graph = graph
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the snapshot."""
        now = self._now
        events = CounterMetricFamily("sluice_events", "Events by outcome.", labels=["outcome"])
        for outcome in CLASSES:
            events.add_metric([outcome.name.lower()], now.events[outcome.name.lower()])
        yield events
        yield self._latency()
        yield from self._stages()
        run_seconds = CounterMetricFamily(
            "sluice_run_seconds", "Seconds of the run by state.", labels=["state"]
        )
        for state in RunTime:
            run_seconds.add_metric([state.value], now.seconds[state.value])
        yield run_seconds
        yield GaugeMetricFamily("sluice_inflight_batches", "Ingest to sink.", value=now.in_flight)
        window = self._graph.config.graph.window
        yield GaugeMetricFamily("sluice_window_batches", "Most in flight.", value=window)
        accepts = CounterMetricFamily(
            "sluice_path_accepts", "Events that a path accepted.", labels=["path"]
        )
        for path, number in now.paths.items():
            accepts.add_metric([path], number)
        yield accepts
        yield CounterMetricFamily(
            "sluice_pass_through_accepts", "Events that only pass-through accepted.",
            now.pass_through,
        )  # fmt: skip
        rung = GaugeMetricFamily(
            "sluice_ladder_rung", "Rung in use: 0 is the full model.", labels=["stage"]
        )
        for stage in self._graph.stages:
            if isinstance(stage, HasLadder):
                rung.add_metric([stage.name], min(now.rung, stage.rungs - 1))
        yield rung
        by_rung = CounterMetricFamily(
            "sluice_ladder_events", "Events by the rung that processed them.", labels=["rung"]
        )
        for number, seen in enumerate(now.rung_events):
            by_rung.add_metric([str(number)], seen)
        yield by_rung
        yield from self._info()
        yield from self._monitors()
        yield from self._shadows()

    def _shadows(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "sluice_shadow_events", "Accepted events by who accepts them.",
            labels=["shadow", "accepted_by"],
        )  # fmt: skip
        dropped = CounterMetricFamily(
            "sluice_shadow_dropped", "Sampled events a shadow did not see.", labels=["shadow"]
        )
        off = GaugeMetricFamily("sluice_shadow_off", "It failed and is off.", labels=["shadow"])
        for name, shadow in self._now.shadows.items():
            accepted = shadow["accepted"]
            events.add_metric([name, "both"], accepted["both"])
            events.add_metric([name, "shadow"], accepted["gained"])
            events.add_metric([name, "production"], accepted["lost"])
            dropped.add_metric([name], shadow["dropped"])
            off.add_metric([name], shadow["off"] is not None)
        yield from (events, dropped, off)

    def _monitors(self) -> Iterator[Metric]:
        seen = self._now.monitors
        dropped = CounterMetricFamily(
            "sluice_monitor_dropped", "Sampled events a monitor did not see.", labels=["monitor"]
        )
        recent = GaugeMetricFamily(
            "sluice_monitor_recent_mean", "Mean of a monitor's latest values.", labels=["monitor"]
        )
        alarm = GaugeMetricFamily(
            "sluice_monitor_alarm", "The recent mean left the reference band.", labels=["monitor"]
        )
        for monitor in self._graph.monitors:
            if monitor.name in seen:
                total = seen[monitor.name]
                text = f"Monitor {monitor.name}."
                yield _histogram(monitor.metric, text, monitor.labels, total.values, total.sum)
                dropped.add_metric([monitor.name], total.dropped)
                recent.add_metric([monitor.name], total.recent)
        alarms = self._now.monitors_out_of_band
        for name in self._now.bands:
            alarm.add_metric([name], name in alarms)
        yield from (dropped, recent, alarm)

    def _latency(self) -> Metric:
        name, text = "sluice_event_latency_seconds", "Time to the decision, by where it begins."
        family = _family(name, text, ["from"])
        for start, one in (("ingest", self._now.latency), ("event", self._now.event_latency)):
            if one is not None:
                family.add_metric([start], _buckets(one.counts), one.sum_ns / 1e9)
        return family

    def _stages(self) -> Iterator[Metric]:
        service = _family("sluice_stage_service_seconds", "A stage's time on a batch.", ["stage"])
        wait = _family("sluice_stage_wait_seconds", "A batch's wait for a stage.", ["stage"])
        events = CounterMetricFamily(
            "sluice_stage_events", "Events that a stage has seen.", labels=["stage"]
        )
        batches = CounterMetricFamily(
            "sluice_stage_batches", "Batches that a stage has seen.", labels=["stage"]
        )
        truncated = CounterMetricFamily(
            "sluice_truncated_events", "Events that had a list cut for a model.", labels=["stage"]
        )
        not_finite = CounterMetricFamily(
            "sluice_not_finite_events", "Events with NaN or infinity from a stage.",
            labels=["stage"],
        )  # fmt: skip
        for stage, total in self._now.stages.items():
            service.add_metric([stage], _buckets(total.service), total.service_ns / 1e9)
            wait.add_metric([stage], _buckets(total.wait), total.wait_ns / 1e9)
            events.add_metric([stage], total.events)
            batches.add_metric([stage], total.batches)
            not_finite.add_metric([stage], total.not_finite)
            truncated.add_metric([stage], total.truncated)
        yield from (service, wait, events, batches, not_finite, truncated)

    def _info(self) -> Iterator[Metric]:
        now = self._now
        run = GaugeMetricFamily("sluice_run_info", "The run.", labels=["run", "graph"])
        run.add_metric([str(now.run), now.graph], 1)
        yield run
        keys = ["stage", "name", "version", "sha256", "backend"]
        models = GaugeMetricFamily("sluice_model_info", "Models that run.", labels=keys)
        for stage, info in now.models.items():
            models.add_metric([stage, *(info[key] for key in keys[1:])], 1)
        yield models
        restarts = CounterMetricFamily(
            "sluice_worker_restarts", "Restarts of workers.", labels=["worker"]
        )
        for worker, number in now.restarts.items():
            restarts.add_metric([worker], number)
        yield restarts
        quarantine = CounterMetricFamily(
            "sluice_quarantine_rows", "Refused events and messages, by whether they were kept.",
            labels=["kept"],
        )  # fmt: skip
        quarantine.add_metric(["yes"], now.quarantine["rows"])
        quarantine.add_metric(["no"], now.quarantine["rows_not_kept"])
        yield quarantine
        gaps = CounterMetricFamily(
            "sluice_source_gap_events", "Events that upstream sent and that never came.",
            labels=["source"],
        )  # fmt: skip
        gaps.add_metric([self._graph.config.source.name], now.events["lost"])
        yield gaps
        yield CounterMetricFamily(
            "sluice_protocol_errors", "Messages that broke the protocol.", now.protocol_errors
        )
        yield CounterMetricFamily(
            "sluice_refused_connections", "Connections without an allowed key.",
            now.refused_connections,
        )  # fmt: skip


def _family(name: str, text: str, labels: list[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=labels)


def _histogram(
    name: str, text: str, labels: dict[str, str], counts: Array, total: float
) -> HistogramMetricFamily:
    family = _family(name, text, list(labels))
    family.add_metric(list(labels.values()), _buckets(counts), total)
    return family


def _buckets(counts: Array) -> list[tuple[str, float]]:
    """Return cumulative counts at the exposed bucket edges."""
    cumulative = np.cumsum(counts)
    shown = [(f"{_UPPER_S[i]:.6g}", float(cumulative[i])) for i in _SHOWN]
    return [*shown, ("+Inf", float(cumulative[-1]))]
