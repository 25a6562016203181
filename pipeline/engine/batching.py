"""Dynamic batching: when a batch closes, given the latency budget and the service times.

A batch closes when it is full; when a worker is idle and was not given an early batch too recently;
or when waiting longer would exceed the latency budget, given the service time of a batch of that
size. The service-time curve is measured at warm-up at several sizes and updated with each batch. A
batch is full when its service time reaches half of the budget.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from sluice.pipeline.sources.base import Available

#: Weight of one measured service time in the curve.
_GAIN = 0.05
#: Margin for the service time of a batch, in mean deviations from the curve.
_MARGIN_DEVIATIONS = 3.0
#: Upper bound on the share of a worker's time spent on batches that were closed early only because
#: the worker was idle.
_MAX_EARLY_SHARE = 0.5
#: Early batches in a row after a quiet time, so that events in bursts need not wait.
_MAX_SAVED_PAUSES = 4
#: Upper bound on the share of the budget that the service of one batch may take, unless only larger
#: batches are efficient.
_SERVICE_SHARE = 0.5
#: A batch size is efficient if its time per event is at most this multiple of the smallest one.
_EFFICIENT_RATIO = 1.1
#: Lower bound on a service time, s, so that a curve can be divided by.
_MIN_SERVICE_S = 1e-6


class ServiceCurve:
    """Service time of a batch by its size, linear between the measured sizes.

    Parameters
    ----------
    times_s
        Pairs of batch size (events) and service time (s).

    Examples
    --------
    >>> curve = ServiceCurve([(1, 0.001), (101, 0.002)])
    >>> curve(51)
    0.0015
    """

    def __init__(self, times_s: Iterable[tuple[int, float]]) -> None:
        points = sorted(times_s)
        self._sizes = [size for size, _ in points]
        self._times = [max(_MIN_SERVICE_S, took_s) for _, took_s in points]
        #: Mean relative deviation of measured service times from the curve.
        self.deviation = 0.0

    @property
    def times_s(self) -> list[tuple[int, float]]:
        """Points of the curve: batch size (events) and service time (s)."""
        return list(zip(self._sizes, self._times, strict=True))

    def __call__(self, events: int) -> float:
        """Return the service time of a batch of `events` events, s."""
        below, share = self._locate(events)
        times = self._times
        return times[below] + share * (times[below + 1] - times[below]) if share else times[below]

    def upper_bound(self, events: int) -> float:
        """Return a service time that few batches of `events` events exceed, s."""
        return self(events) * (1.0 + _MARGIN_DEVIATIONS * self.deviation)

    def largest_within(self, budget_s: float) -> int:
        """Return the largest batch size, within the measured ones, served in `budget_s`.

        The smallest measured size if none is.

        Examples
        --------
        >>> ServiceCurve([(1, 0.001), (101, 0.002)]).largest_within(0.0015)
        51
        """
        sizes, times = self._sizes, self._times
        if times[-1] <= budget_s:
            return sizes[-1]
        above = next(index for index, took_s in enumerate(times) if took_s > budget_s)
        if not above:
            return sizes[0]
        low, high = sizes[above - 1 : above + 1]
        share = (budget_s - times[above - 1]) / (times[above] - times[above - 1])
        return low + int(share * (high - low))

    @property
    def efficient_size(self) -> int:
        """Smallest measured batch size whose time per event is close to the best."""
        each = [took_s / size for size, took_s in zip(self._sizes, self._times, strict=True)]
        limit_s = _EFFICIENT_RATIO * min(each)
        return next(
            size for size, took_s in zip(self._sizes, each, strict=True) if took_s <= limit_s
        )

    def update(self, events: int, took_s: float) -> None:
        """Move the two points next to `events` toward a measured service time."""
        error = min(took_s / self(events), 3.0) - 1.0  # limits the weight of a preempted process
        self.deviation += _GAIN * (abs(error) - self.deviation)
        below, share = self._locate(events)
        self._times[below] *= 1.0 + _GAIN * (1.0 - share) * error
        if share:
            self._times[below + 1] *= 1.0 + _GAIN * share * error

    def _locate(self, events: int) -> tuple[int, float]:
        """Return the index of the point at or below a size, and the share of the next point."""
        below = max(0, bisect_right(self._sizes, events) - 1)
        if below + 1 == len(self._sizes):
            return below, 0.0
        low, high = self._sizes[below : below + 2]
        return below, max(0.0, (events - low) / (high - low))


class BatchingPolicy:
    """Decides when a batch closes, and how large it may get.

    Parameters
    ----------
    budget_s
        Latency budget from ingest to decision, s.
    max_events
        Largest number of events of a batch.
    """

    def __init__(self, budget_s: float, max_events: int) -> None:
        self._budget_s = budget_s
        self._max_events = max_events
        #: Service-time curve of each ladder rung.
        self.curves = [ServiceCurve([(1, 0.0)])]
        #: Ladder rung of the next batch.
        self.rung = 0
        self._earliest_idle_close_ns = 0
        #: Time of a batch beside its service, s: two messages, packing, wake-up.
        self._transport_s = 0.0

    def set_service_times(self, times_s: Iterable[Iterable[tuple[int, float]]]) -> None:
        """Set the curves to the service times that a worker measured at warm-up, by rung."""
        self.curves = [ServiceCurve(of_rung) for of_rung in times_s]

    @property
    def target_events(self) -> int:
        """Events of a full batch on the current rung."""
        return self._full_events(self.curves[self.rung])

    @property
    def full_service_s(self) -> float:
        """Service time of a full batch on the current rung, s."""
        return self.curves[self.rung](self.target_events)

    def required_s(self, events: int, rung: int) -> float:
        """Return the worker time that `events` events need on a rung, s.

        That is the service time of a batch of them, or their share of a full batch if that is less.
        """
        curve = self.curves[rung]
        full = self._full_events(curve)
        return min(curve(events), events * curve(full) / full)

    def due_in(self, waiting: Available, now_ns: int, *, idle: bool) -> float:
        """Return the time until the batch of the waiting events closes, s; 0 if it closes now.

        Parameters
        ----------
        waiting
            Events that wait in the source; at least one.
        now_ns
            Time, ns of CLOCK_MONOTONIC.
        idle
            Whether a worker is idle.
        """
        if waiting.events >= self.target_events:
            return 0.0
        age_s, curve = waiting.age_s(now_ns), self.curves[self.rung]
        due_s = self._budget_s - age_s - curve.upper_bound(waiting.events) - self._transport_s
        if idle:
            due_s = min(due_s, (self._earliest_idle_close_ns - now_ns) * 1e-9)
        return max(0.0, due_s)

    def is_late(self, events: int, age_s: float) -> bool:
        """Whether a batch sent now, its oldest event `age_s` old, will exceed the budget."""
        return age_s + self.curves[self.rung](events) > self._budget_s

    def _full_events(self, curve: ServiceCurve) -> int:
        budget_s = _SERVICE_SHARE * self._budget_s
        if curve(self._max_events) <= budget_s:
            return self._max_events
        return min(self._max_events, max(curve.largest_within(budget_s), curve.efficient_size))

    def on_sent(self, events: int, now_ns: int, workers: int) -> None:
        """Record that a batch was sent to one of `workers` workers."""
        pause_ns = int(1e9 * self.curves[self.rung](events) / (_MAX_EARLY_SHARE * workers))
        self._earliest_idle_close_ns = (
            max(self._earliest_idle_close_ns, now_ns - _MAX_SAVED_PAUSES * pause_ns) + pause_ns
        )

    def on_done(
        self, events: int, service_ns: int, round_trip_ns: int | None, rung: int = 0
    ) -> None:
        """Record the times of a batch.

        Parameters
        ----------
        events
            Size of the batch.
        service_ns
            Service time in the worker, ns.
        round_trip_ns
            Time from sending the batch to its report, ns; None if the worker was not idle.
        rung
            Ladder rung of the batch.
        """
        self.curves[rung].update(events, service_ns * 1e-9)
        if round_trip_ns is not None:
            transport_s = max(0, round_trip_ns - service_ns) * 1e-9
            self._transport_s += _GAIN * (transport_s - self._transport_s)
