"""Prometheus metrics of the GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.pipeline.gpu.nvml import Sample

#: Name of the metric, its help text, and the function that returns its value of a sample.
_GAUGES: tuple[tuple[str, str, Callable[[Sample], float | None]], ...] = (
    ("utilisation_ratio", "Share of the time in which a kernel ran.", lambda s: s.busy),
    ("memory_busy_ratio", "Share of the time in which memory was used.", lambda s: s.memory_busy),
    ("memory_used_bytes", "Memory in use.", lambda s: s.memory_used),
    ("memory_total_bytes", "Memory.", lambda s: s.memory_total),
    ("power_watts", "Power drawn.", lambda s: s.power_w),
    ("power_limit_watts", "Most power that it may draw.", lambda s: s.power_limit_w),
    ("temperature_celsius", "Temperature.", lambda s: s.temperature_c),
)


class GpuCollector(Collector):
    """Collects the latest samples of the GPUs, for prometheus_client.

    Parameters
    ----------
    samples
        Returns the latest samples.
    """

    def __init__(self, samples: Callable[[], Sequence[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the GPUs; those that a GPU does not support have no value."""
        samples = self._samples()
        about = GaugeMetricFamily("sluice_gpu_info", "GPUs.", labels=["gpu", "uuid", "name"])
        for sample in samples:
            about.add_metric([str(sample.index), sample.uuid, sample.name], 1)
        yield about
        for name, text, value_of in _GAUGES:
            gauge = GaugeMetricFamily(f"sluice_gpu_{name}", text, labels=["gpu"])
            for sample in samples:
                _add(gauge, [str(sample.index)], value_of(sample))
            yield gauge
        yield from _clocks(samples)
        yield from _faults(samples)


def _clocks(samples: Sequence[Sample]) -> Iterator[Metric]:
    clock = GaugeMetricFamily("sluice_gpu_clock_hertz", "Clocks.", labels=["gpu", "clock"])
    held = GaugeMetricFamily(
        "sluice_gpu_throttled", "Whether clocks are held down.", labels=["gpu", "reason"]
    )
    for sample in samples:
        gpu = str(sample.index)
        _add(clock, [gpu, "sm"], sample.sm_hz)
        _add(clock, [gpu, "memory"], sample.memory_hz)
        for reason, is_so in (sample.throttled or {}).items():
            held.add_metric([gpu, reason], is_so)
    yield from (clock, held)


def _faults(samples: Sequence[Sample]) -> Iterator[Metric]:
    ecc = CounterMetricFamily("sluice_gpu_ecc_errors", "ECC errors.", labels=["gpu", "kind"])
    failed = CounterMetricFamily(
        "sluice_gpu_sample_errors", "Queries of the driver that failed.", labels=["gpu"]
    )
    for sample in samples:
        gpu = str(sample.index)
        _add(ecc, [gpu, "corrected"], sample.corrected)
        _add(ecc, [gpu, "uncorrected"], sample.uncorrected)
        failed.add_metric([gpu], sample.errors)
    yield from (ecc, failed)


def _add(
    family: GaugeMetricFamily | CounterMetricFamily, labels: list[str], value: float | None
) -> None:
    if value is not None:
        family.add_metric(labels, value)
