"""Prometheus metrics of a run, collected at a scrape from the account and the workers' meters."""

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
from sluice.pipeline.core.batch import Outcome
from sluice.pipeline.core.schema import Array
from sluice.pipeline.metrics.totals import monitor_totals, shadow_report, stage_totals
from sluice.pipeline.run.accounting import RunAccounting
from sluice.pipeline.run.ledger import CLASSES, RunTime
from sluice.pipeline.run.state import USERS, RunState, State
from sluice.pipeline.stages.base import Steps

_UPPER_S = edges()
#: Every octave has 32 buckets inside; four of them an octave are shown.
_SHOWN = np.arange(7, len(_UPPER_S), 8)


class RunCollector(Collector):
    """Shows the run that is; hand it to a prometheus_client registry.

    Parameters
    ----------
    now
        Returns its account, None before the first run, and its control.
    """

    def __init__(self, now: Callable[[], tuple[RunAccounting | None, RunState]]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the run as it stands."""
        account, control = self._now()
        yield from _states(control)
        if account is not None:
            yield from _AccountCollector(account).collect()


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


class _AccountCollector:
    """Shows the account of one run."""

    def __init__(self, account: RunAccounting) -> None:
        self._account = account

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the account as it stands."""
        account = self._account
        with account.lock:
            counts, seconds = list(account.ledger.counts), account.ledger.seconds()
            latency, latency_sum = account.latency.copy(), account.latency_sum_ns / 1e9
            in_flight, paths = account.in_flight, account.paths.tolist()
        events = CounterMetricFamily("sluice_events", "Events by outcome.", labels=["outcome"])
        for outcome in CLASSES:
            events.add_metric([outcome.name.lower()], counts[outcome])
        yield events
        name = "sluice_event_latency_seconds"
        yield _histogram(name, "Ingest to decision.", {}, latency, latency_sum)
        yield from self._stages()
        run_seconds = CounterMetricFamily(
            "sluice_run_seconds", "Seconds of the run by state.", labels=["state"]
        )
        for state in RunTime:
            run_seconds.add_metric([state.value], seconds[state.value])
        yield run_seconds
        yield GaugeMetricFamily("sluice_inflight_batches", "Ingest to sink.", value=in_flight)
        window = account.graph.config.graph.window
        yield GaugeMetricFamily("sluice_window_batches", "Most in flight.", value=window)
        accepts = CounterMetricFamily(
            "sluice_path_accepts", "Events that a path accepted.", labels=["path"]
        )
        for path, number in zip(account.graph.paths(), paths, strict=False):
            accepts.add_metric([path], number)
        yield accepts
        rung = GaugeMetricFamily(
            "sluice_ladder_rung", "Rung that judges: 0 is the full model.", labels=["stage"]
        )
        for stage in account.graph.stages:
            if isinstance(stage, Steps):
                rung.add_metric([stage.name], min(account.ladder.rung, stage.rungs - 1))
        yield rung
        judged = CounterMetricFamily(
            "sluice_ladder_events", "Events by the rung that judged them.", labels=["rung"]
        )
        for number, seen in enumerate(account.ladder.events):
            judged.add_metric([str(number)], seen)
        yield judged
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
        found = shadow_report(self._account.blocks, self._account.graph.paths())
        for name, shadow in found.items():
            accepted = shadow["accepted"]
            events.add_metric([name, "both"], accepted["both"])
            events.add_metric([name, "shadow"], accepted["gained"])
            events.add_metric([name, "production"], accepted["lost"])
            dropped.add_metric([name], shadow["dropped"])
            off.add_metric([name], shadow["off"] is not None)
        yield from (events, dropped, off)

    def _monitors(self) -> Iterator[Metric]:
        seen = monitor_totals(self._account.blocks)
        dropped = CounterMetricFamily(
            "sluice_monitor_dropped", "Sampled events a monitor did not see.", labels=["monitor"]
        )
        recent = GaugeMetricFamily(
            "sluice_monitor_recent_mean", "Mean of a monitor's latest values.", labels=["monitor"]
        )
        alarm = GaugeMetricFamily(
            "sluice_monitor_alarm", "The recent mean left the reference band.", labels=["monitor"]
        )
        for monitor in self._account.graph.monitors:
            if monitor.name in seen:
                total = seen[monitor.name]
                text = f"Monitor {monitor.name}."
                yield _histogram(monitor.metric, text, monitor.labels, total.values, total.sum)
                dropped.add_metric([monitor.name], total.dropped)
                recent.add_metric([monitor.name], total.recent)
        alarms = self._account.monitors_out_of_band()
        for name in self._account.bands:
            alarm.add_metric([name], name in alarms)
        yield from (dropped, recent, alarm)

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
        for stage, total in stage_totals(self._account.blocks).items():
            service.add_metric([stage], _buckets(total.service), total.service_ns / 1e9)
            wait.add_metric([stage], _buckets(total.wait), total.wait_ns / 1e9)
            events.add_metric([stage], total.events)
            batches.add_metric([stage], total.batches)
            truncated.add_metric([stage], total.truncated)
        yield from (service, wait, events, batches, truncated)

    def _info(self) -> Iterator[Metric]:
        account = self._account
        run = GaugeMetricFamily("sluice_run_info", "The run.", labels=["run", "graph"])
        run.add_metric([str(account.run), account.graph.config.graph.name], 1)
        yield run
        keys = ["stage", "name", "version", "sha256", "backend"]
        models = GaugeMetricFamily("sluice_model_info", "Models that run.", labels=keys)
        for stage, info in account.models.items():
            models.add_metric([stage, *(info[key] for key in keys[1:])], 1)
        yield models
        restarts = CounterMetricFamily(
            "sluice_worker_restarts", "Restarts of dead workers.", labels=["worker"]
        )
        for worker, number in dict(account.restarts).items():
            restarts.add_metric([worker], number)
        yield restarts
        gaps = CounterMetricFamily(
            "sluice_source_gap_events", "Events that upstream sent and that never came.",
            labels=["source"],
        )  # fmt: skip
        gaps.add_metric([account.graph.config.source.name], account.ledger.counts[Outcome.LOST])
        yield gaps
        yield CounterMetricFamily(
            "sluice_protocol_errors", "Messages that broke the protocol.", account.protocol_errors
        )
        yield CounterMetricFamily(
            "sluice_refused_connections", "Connections without an allowed key.",
            account.refused_connections,
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
    """Return cumulative counts at the edges shown."""
    cumulative = np.cumsum(counts)
    shown = [(f"{_UPPER_S[i]:.6g}", float(cumulative[i])) for i in _SHOWN]
    return [*shown, ("+Inf", float(cumulative[-1]))]
