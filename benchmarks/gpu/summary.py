"""The report of the check as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_BEGIN, _END = "<!-- gpu-check: begin -->", "<!-- gpu-check: end -->"


def markdown(report: dict[str, Any]) -> str:
    """Return tables: the result of each step, and the findings of those that wrote any."""
    steps = report["steps"]
    verdict = "every step passed" if report["passed"] else "**not every step passed**"
    lines = [f"{report.get('date', '')}: {verdict}, {report['seconds']:.0f} s.".strip(), ""]
    lines += ["| step | | seconds |", "|---|---|---:|"]
    for step in steps:
        word = "passed" if step["passed"] else _fault(step["why"])
        lines.append(f"| {step['name']} | {word} | {step['seconds']:.0f} |")
    for step in steps:
        table = next(
            (make for name, make in _TABLES.items() if step["name"].startswith(name)), None
        )
        if table is not None and step["found"]:
            try:
                lines += ["", *table(step["found"])]
            except (KeyError, TypeError, AttributeError) as error:
                lines += ["", f"{step['name']}: its table cannot be made: {error!r}"]
    return "\n".join(lines) + "\n"


def insert(page: str, tables: str) -> str:
    """Return a page with the tables between its marks; at its end where it has none."""
    block = f"{_BEGIN}\n{tables}{_END}"
    before, begin, rest = page.partition(_BEGIN)
    if not begin:
        return f"{page.rstrip()}\n\n## Measured\n\n{block}\n"
    _, _, after = rest.partition(_END)
    return before + block + after


def _machine(found: dict[str, Any]) -> Iterator[str]:
    rows = [
        f for f in found["findings"] if f["group"] == "gpu" or f["name"] in ("processor", "cores")
    ]
    yield from _head("what", "", "found", right=0)
    for row in rows:
        yield f"| {row['name']} | {row['status']} | {row['found']} |"


def _parity(found: dict[str, Any]) -> Iterator[str]:
    yield f"Parity on `{found['backend']}`, greatest difference from the CPU:"
    yield ""
    yield from _head("model", "", "difference", "allowed", "seconds to load", right=3)
    for one in found["models"]:
        word = "same" if one["passed"] else _fault(one["why"])
        yield (
            f"| {one['model']} | {word} | {_number(one['difference'])} | {_number(one['allowed'])} "
            f"| {_number(one['load_s'])} |"
        )


def _graphs(found: dict[str, Any]) -> Iterator[str]:
    yield from _head("graph", "models on", "events/s", "at rate", "p50", "p99", right=4)
    for one in found["graphs"]:
        if one["why"]:
            yield f"| {one['graph']} | {one['backend']} | {_fault(one['why'])} | | | |"
            continue
        p50, p99 = (1e3 * one["latency_s"][name] for name in ("p50", "p99"))
        yield (
            f"| {one['graph']} | {one['backend']} | {one['rate_hz']:,.0f} "
            f"| {one['offered_hz']:,.0f} | {p50:.2f} ms | {p99:.2f} ms |"
        )


def _kernels(found: dict[str, Any]) -> Iterator[str]:
    peak, copy = (found[f"{name}_bytes_per_s"] / 1e9 for name in ("peak", "copy"))
    yield f"Kernels on {found['gpu']}, whose memory moves {peak:,.0f} GB/s, in a copy {copy:,.0f}:"
    yield ""
    yield from _head("kernel", "events/s", "bytes an event", "GB/s", "share of the peak", right=4)
    for one in found["kernels"]:
        if one["why"]:
            yield f"| {one['kernel']} | {_fault(one['why'])} | | | |"
            continue
        yield (
            f"| {one['kernel']} | {one['rate_hz']:,.0f} | {one['bytes_per_event']:,.0f} "
            f"| {one['bytes_per_s'] / 1e9:,.0f} | {one['share_of_peak']:.2f} |"
        )


#: Table of a step, by the beginning of the step's name.
_TABLES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "doctor": _machine,
    "parity": _parity,
    "graphs": _graphs,
    "kernels": _kernels,
}


def _head(*names: str, right: int) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * (len(names) - right)}{'---:|' * right}"


def _fault(why: str) -> str:
    """Return the first line of what went wrong, fit for a table's cell."""
    return f"**{why.splitlines()[0] if why else 'unknown'}**".replace("|", "/")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
