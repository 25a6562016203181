"""Load generators: closed loop for throughput, open loop for latency."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

#: Time that answers may take after the last message was sent, s.
LAST_S = 5.0
_GIVE_UP_NS = 1_000_000_000
_MAX_MESSAGES = 4_000_000


class Link(Protocol):
    """A client's side of a peer; messages are numbered from 0."""

    #: Limit on the messages in flight.
    max_in_flight: int
    #: Whether messages may get lost: after a second without answers, others are sent instead.
    loses: bool

    def send(self, number: int) -> None:
        """Send a message."""

    def wait(self, timeout_s: float) -> list[int]:
        """Return the numbers of the messages that were answered, waiting for one up to a time."""

    def errors(self) -> int:
        """Return the number of wrong answers."""


class Times:
    """When each message was due and when it was answered, in ns of CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.due = np.zeros(_MAX_MESSAGES, np.int64)
        self.answered = np.zeros(_MAX_MESSAGES, np.int64)
        self.sent = 0

    def answer(self, numbers: list[int]) -> None:
        """Note that messages were answered now."""
        if numbers:
            self.answered[numbers] = time.monotonic_ns()

    def result(self, first: int, until_ns: int, seconds: float, events: int) -> dict[str, Any]:
        """Return rates and quantiles of the messages from number `first` on.

        Parameters
        ----------
        first
            Messages before it were for warming up.
        until_ns, seconds
            The rate counts answers up to then, over so many seconds.
        events
            Events in a message.
        """
        due, answered = self.due[first : self.sent], self.answered[first : self.sent]
        there = answered > 0
        took_ms = (answered[there] - due[there]) / 1e6
        in_time = int(((answered >= until_ns - seconds * 1e9) & (answered <= until_ns)).sum())
        quantiles = np.percentile(took_ms, [50, 99, 100]) if len(took_ms) else [None] * 3
        return {
            "messages": int(there.sum()),
            "unanswered": int((~there).sum()),
            "messages_per_s": in_time / seconds,
            "events_per_s": in_time * events / seconds,
            "latency_ms": dict(zip(("p50", "p99", "max"), map(_float, quantiles), strict=True)),
        }


def _float(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def closed_loop(
    link: Link, events: int, in_flight: int, warm_s: float, seconds: float
) -> dict[str, Any]:
    """Keep `in_flight` messages in flight, as fast as answers come."""
    times = Times()
    in_flight = min(in_flight, link.max_in_flight)
    waiting, first = 0, 0
    start = heard_ns = time.monotonic_ns()
    warm_ns, end_ns = start + int(warm_s * 1e9), start + int((warm_s + seconds) * 1e9)
    while (now := time.monotonic_ns()) < end_ns and times.sent < _MAX_MESSAGES:
        first = times.sent if now < warm_ns else first
        while waiting < in_flight:
            times.due[times.sent] = time.monotonic_ns()
            link.send(times.sent)
            times.sent += 1
            waiting += 1
        done = link.wait(0.1)
        times.answer(done)
        waiting -= len(done)
        heard_ns = time.monotonic_ns() if done else heard_ns
        if link.loses and time.monotonic_ns() - heard_ns > _GIVE_UP_NS:
            waiting, heard_ns = 0, time.monotonic_ns()
    _drain(link, times, waiting)
    return {
        "loop": "closed", "events_per_message": events, "in_flight": in_flight,
        **times.result(first, end_ns, seconds, events), "errors": link.errors(),
    }  # fmt: skip


def open_loop(
    link: Link, events: int, rate_hz: float, warm_s: float, seconds: float
) -> dict[str, Any]:
    """Send a message every ``1 / rate_hz``, whatever comes back; late sending counts as latency."""
    times = Times()
    total, waiting = int(rate_hz * (warm_s + seconds)), 0
    start = time.monotonic_ns()
    due = start + (np.arange(total) * (1e9 / rate_hz)).astype(np.int64)
    times.due[:total] = due
    end_ns = start + int((warm_s + seconds) * 1e9)
    while times.sent < total and (now := time.monotonic_ns()) < end_ns + LAST_S * 1e9:
        while times.sent < total and due[times.sent] <= now and waiting < link.max_in_flight:
            link.send(times.sent)
            times.sent += 1
            waiting += 1
        full = times.sent < total and due[times.sent] <= now
        early_s = 0.1 if full or times.sent == total else (due[times.sent] - now) / 1e9
        done = link.wait(min(0.1, max(0.0, early_s)))
        times.answer(done)
        waiting -= len(done)
    _drain(link, times, waiting)
    late = total - times.sent
    times.sent = total
    result = times.result(int(rate_hz * warm_s), end_ns, seconds, events)
    return {
        "loop": "open", "events_per_message": events, "offered_per_s": rate_hz, "not_sent": late,
        **result, "errors": link.errors(),
    }  # fmt: skip


def _drain(link: Link, times: Times, waiting: int) -> None:
    deadline = time.monotonic() + LAST_S
    while waiting > 0 and time.monotonic() < deadline:
        done = link.wait(0.1)
        times.answer(done)
        waiting -= len(done)
