"""When a batch closes: as late as its worker and the latency budget allow, no later.

A batch closes when it is full; when its worker is idle and rested; or when waiting longer would
break the budget, given what a batch of that size takes. The service-time curve says what it
takes: measured at warm-up at several sizes, tracked since. Where time matters a batch is full when
its service takes half of the budget.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from sluice.pipeline.sources.base import Available

#: Share of the difference between a measured time and the curve that the curve takes over.
_GAIN = 0.05
#: Deviations from the curve that a batch is given room for.
_MARGIN = 3.0
#: Most of a worker's time that batches may take which are small for want of patience alone.
_DUTY = 0.5
#: Rests that a worker may have saved up, so that events which come in bursts need not wait.
_SLACK = 4
#: Share of the budget that the service of one batch may take, where smaller batches are as good.
_SERVICE = 0.5
#: A size is as good as a larger one if an event takes at most this much longer in it.
_AS_GOOD = 1.1
#: No batch takes less: a curve may be divided by.
_LEAST_S = 1e-6


class ServiceCurve:
    """What a batch takes by its size, between the sizes measured linear.

    Parameters
    ----------
    times_s
        Size of a batch and seconds that it takes, sizes ascending.

    Examples
    --------
    >>> curve = ServiceCurve([(1, 0.001), (101, 0.002)])
    >>> curve(51)
    0.0015
    """

    def __init__(self, times_s: Iterable[tuple[int, float]]) -> None:
        points = sorted(times_s)
        self._sizes = [size for size, _ in points]
        self._times = [max(_LEAST_S, took_s) for _, took_s in points]
        #: Mean distance of what was measured from the curve, as a share of it.
        self.deviation = 0.0

    @property
    def times_s(self) -> list[tuple[int, float]]:
        """The curve's points."""
        return list(zip(self._sizes, self._times, strict=True))

    def __call__(self, events: int) -> float:
        """Return the seconds that a batch of `events` events takes."""
        below, share = self._place(events)
        times = self._times
        return times[below] + share * (times[below + 1] - times[below]) if share else times[below]

    def upper_bound(self, events: int) -> float:
        """Return the seconds that hardly any batch of `events` events exceeds."""
        return self(events) * (1.0 + _MARGIN * self.deviation)

    def largest_within(self, budget_s: float) -> int:
        """Return the largest batch up to the last point that takes so long at most, or the first.

        Examples
        --------
        >>> ServiceCurve([(1, 0.001), (101, 0.002)]).largest_within(0.0015)
        51
        """
        sizes, times = self._sizes, self._times
        if times[-1] <= budget_s:
            return sizes[-1]
        above = next(place for place, took_s in enumerate(times) if took_s > budget_s)
        if not above:
            return sizes[0]
        low, high = sizes[above - 1 : above + 1]
        share = (budget_s - times[above - 1]) / (times[above] - times[above - 1])
        return low + int(share * (high - low))

    @property
    def efficient_size(self) -> int:
        """The smallest measured size in which an event takes hardly longer than in any other."""
        each = [took_s / size for size, took_s in zip(self._sizes, self._times, strict=True)]
        least = _AS_GOOD * min(each)
        return next(size for size, took_s in zip(self._sizes, each, strict=True) if took_s <= least)

    def update(self, events: int, took_s: float) -> None:
        """Move the two points beside `events` toward what a batch took."""
        error = min(took_s / self(events), 3.0) - 1.0  # a preempted process says little
        self.deviation += _GAIN * (abs(error) - self.deviation)
        below, share = self._place(events)
        self._times[below] *= 1.0 + _GAIN * (1.0 - share) * error
        if share:
            self._times[below + 1] *= 1.0 + _GAIN * share * error

    def _place(self, events: int) -> tuple[int, float]:
        """Return the point at or below a size, and the share of the way to the next."""
        below = max(0, bisect_right(self._sizes, events) - 1)
        if below + 1 == len(self._sizes):
            return below, 0.0
        low, high = self._sizes[below : below + 2]
        return below, max(0.0, (events - low) / (high - low))


class BatchingPolicy:
    """The rule by which batches close.

    Parameters
    ----------
    budget_s
        From ingest to decision.
    most
        Events of a full batch.
    """

    def __init__(self, budget_s: float, most: int) -> None:
        self._budget_s = budget_s
        self._most = most
        #: By rung of the ladder.
        self.curves = [ServiceCurve([(1, 0.0)])]
        #: On which the next batch will be judged.
        self.rung = 0
        self._earliest_idle_close_ns = 0
        #: What a batch takes beside its service: two hops, packing, waking.
        self._travel_s = 0.0

    def begin(self, times_s: Iterable[Iterable[tuple[int, float]]]) -> None:
        """Take what a worker measured at its warm-up, by rung."""
        self.curves = [ServiceCurve(of_rung) for of_rung in times_s]

    @property
    def target_events(self) -> int:
        """Events of a batch that is full where time matters."""
        return self._full(self.curves[self.rung])

    def required_s(self, events: int, rung: int) -> float:
        """Return the seconds that so many events need on a rung, if batches may grow to fit.

        That is what they take as a batch, or their share of what a full one takes.
        """
        curve = self.curves[rung]
        full = self._full(curve)
        return min(curve(events), events * curve(full) / full)

    def due_in(self, waiting: Available, now_ns: int, *, idle: bool) -> float:
        """Return the seconds until the batch of what waits closes, 0 if it is to go now.

        Parameters
        ----------
        waiting
            What the source has; at least one event.
        now_ns
            CLOCK_MONOTONIC.
        idle
            Whether a worker has nothing to do.
        """
        if waiting.events >= self.target_events:
            return 0.0
        age_s, curve = (now_ns - waiting.oldest_ns) * 1e-9, self.curves[self.rung]
        due_s = self._budget_s - age_s - curve.upper_bound(waiting.events) - self._travel_s
        if idle:
            due_s = min(due_s, (self._earliest_idle_close_ns - now_ns) * 1e-9)
        return max(0.0, due_s)

    def is_late(self, events: int, age_s: float) -> bool:
        """Tell whether a batch that goes now, its oldest event so old, breaks the budget."""
        return age_s + self.curves[self.rung](events) > self._budget_s

    def _full(self, curve: ServiceCurve) -> int:
        budget_s = _SERVICE * self._budget_s
        if curve(self._most) <= budget_s:
            return self._most
        return min(self._most, max(curve.largest_within(budget_s), curve.efficient_size))

    def on_sent(self, events: int, now_ns: int, workers: int) -> None:
        """Note that a batch went out, to one of so many workers."""
        rest_ns = int(1e9 * self.curves[self.rung](events) / (_DUTY * workers))
        self._earliest_idle_close_ns = (
            max(self._earliest_idle_close_ns, now_ns - _SLACK * rest_ns) + rest_ns
        )

    def on_done(self, events: int, service_ns: int, away_ns: int | None, rung: int = 0) -> None:
        """Note what a batch took: in the worker; from sent to heard of, if it was alone there."""
        self.curves[rung].update(events, service_ns * 1e-9)
        if away_ns is not None:
            travel_s = max(0, away_ns - service_ns) * 1e-9
            self._travel_s += _GAIN * (travel_s - self._travel_s)
