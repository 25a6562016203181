"""Blocks of Markdown with figures: one function for each, from the stored results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sluice.pipeline.inference.repository import find_model

from .markdown import figure, rows
from .wafer_blocks import TABLES as WAFER_TABLES

#: Returns a stored result by name.
Read = Callable[[str], dict[str, Any]]
Table = dict[str, Any]

_PERCENT = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)


def source(stored: Table) -> str:
    """Return the line that names the command of a result, its date and its machine."""
    machine = stored["machine"]
    return (
        f"`{stored['command']}`, {stored['date']}; {machine['cores']} cores of "
        f"{machine['processor']}, load before {machine['load_before']:.1f}."
    )


def _cosmics_sample(found: Table) -> list[str]:
    lines = (
        (name, f"{found[name]['bars']:.1f}", f"{100 * found[name]['two_layers']:.0f} %")
        for name in ("annihilation", "cosmic")
    )
    return rows(("class", "bars that fire", "both layers of strips hit"), lines)


def _cosmics_models(found: Table) -> list[str]:
    keys = (("auc", 4), ("muons_kept", 3), ("auc_two_layers", 4), ("muons_kept_two_layers", 3))
    head = (
        "model", "area", "muons kept at 99 % of annihilations",
        "area, two layers of strips hit", "muons kept, two layers",
    )  # fmt: skip
    return rows(head, _of_models(found["models"], keys))


def _of_models(models: Table, keys: Iterable[tuple[str, int]]) -> list[list[str]]:
    keys = list(keys)
    return [
        [f"`{name}`", *(figure(table, key, digits) for key, digits in keys)]
        for name, table in models.items()
    ]


_COVERAGE = ("none", "one_layer", "two_layers", "vertex")
_SAMPLES = {"toy": "toy", "elsewhere": "toy elsewhere", "real": "real"}
_AREAS = ("auc_vertex", "auc_without", "auc_two_layers")


def _antihydrogen_coverage(found: Table) -> list[str]:
    head = ("share of events", "none", "one layer", "two layers, no vertex", "vertex")
    tables = {"published": found["published"], "toy": found["toy"]["coverage"],
              "real (200 events, all with hits)": found["real"]["coverage"]}  # fmt: skip
    return rows(
        head, ([name, *(f"{t[key]:.2f}" for key in _COVERAGE)] for name, t in tables.items())
    )


def _antihydrogen_clusters(found: Table) -> list[str]:
    views = {"inner_z": "inner z", "inner_phi": "inner φ", "outer_z": "outer z",
             "outer_phi": "outer φ"}  # fmt: skip
    lines = [
        [name, *(f"{t[v]['clusters']:.2f}, {t[v]['width']:.2f}" for v in views)]
        for name, t in ((name, found[name]["clusters"]) for name in ("toy", "real"))
    ]
    return rows(("clusters a view, and their width in strips", *views.values()), lines)


def _antihydrogen_areas(found: Table) -> list[str]:
    published = found["published"]
    lines = [
        ["vertex finding, published", f"{published['vertex_finding_auc_vertex']:.2f}", "", ""],
        ["net, published", *(f"{published[key]:.2f}" for key in _AREAS)],
    ]
    lines += [
        [f"vertex finding, {said}", f"{found[name]['vertex_finding']['auc_vertex']:.3f}", "", ""]
        for name, said in _SAMPLES.items()
    ]
    for model in ("antihydrogen", "antihydrogen-unshifted", "antihydrogen-half"):
        for name, said in _SAMPLES.items():
            table, digits = found[name]["models"][model], 2 if name == "real" else 4
            lines.append([f"`{model}`, {said}", *(figure(table, k, digits) for k in _AREAS)])
    return rows(
        ("area under the curve", "vertex", "two layers, no vertex", "all of two layers"), lines
    )


def _antihydrogen_variants(found: Table) -> list[str]:
    names = ("antihydrogen", "antihydrogen-int8", "antihydrogen-fp16", "antihydrogen-half")
    lines = []
    for name in names:
        table = found["models"][name]
        lost = table.get("auc_two_layers_loss")
        lines.append([f"`{name}`", _bytes(name), *(figure(table, key, 4) for key in _AREAS),
                      "" if lost is None else f"{lost:+.4f}"])  # fmt: skip
    head = ("variant", "bytes", "vertex", "two layers, no vertex", "all of two layers", "lost")
    return rows(head, lines)


def _bytes(model: str) -> str:
    return f"{find_model(model).path.stat().st_size:,}"


_JETS = (("rejection", 1), ("inverse_jsd", 1), ("auc", 3))


def _jets_trainings(found: Table) -> list[str]:
    lines = [
        [name, *(figure(table, key, digits, "spread") for key, digits in _JETS)]
        for name, table in found["table"].items()
    ]
    head = ("50 % of the signal (100 GeV)", "rejection of QCD", "1/JSD", "area under the curve")
    return rows(head, lines)


def _jets_significance(found: Table) -> list[str]:
    lines = []
    for how, said in (("counting", "counted"), ("fit", "fitted")):
        for name, table in found["significance"].items():
            cells = (figure(table[f"{share:g}"], how, 2, "spread") for share in _PERCENT)
            lines.append([f"{said}, {name}", *cells])
    return rows(("Z", *(f"{100 * share:g} %" for share in _PERCENT)), lines)


def _jets_masses(found: Table) -> list[str]:
    masses = found["masses"]
    lines = [
        [name, *(figure(row.get(key, {}), "rejection", 1, "spread") for row in masses)]
        for key, name in (
            ("parametrised", "parametrised"),
            ("parametrised-adversarial", "parametrised-adversarial"),
            ("plain", "plain"), ("dedicated", "dedicated to 125 GeV"),
        )
    ]  # fmt: skip
    lines += [
        [f"1/JSD, {key}", *(figure(row[key], "inverse_jsd", 1, "spread") for row in masses)]
        for key in ("parametrised", "parametrised-adversarial")
    ]
    return rows(("rejection at 50 %", *(f"{row['resonance']} GeV" for row in masses)), lines)


def _jets_models(found: Table) -> list[str]:
    lines = [
        [f"`{name}`", _bytes(name), *(figure(table, key, digits) for key, digits in _JETS)]
        for name, table in found["models"].items()
    ]
    return rows(("model", "bytes", "rejection", "1/JSD", "area"), lines)


def _latency(found: Table) -> list[str]:
    lines = []
    for engine, table in found["engines"].items():
        for point in table["points"]:
            times = (f"{1e3 * point['latency_s'][key]:.2f}" for key in ("p50", "p99", "p999"))
            ingest = f"{1e3 * point['ingest_latency_s']['p99']:.2f}"
            undecided = sum(point[k] for k in ("lost", "shed", "dropped", "invalid", "failed"))
            lines.append([engine, f"{point['offered_hz']:,.0f}", f"{point['sent_hz']:,.0f}", *times,
                          ingest, f"{point['events_a_batch']:.1f}", f"{undecided:,}"])  # fmt: skip
    knees = (f"{name} {table['knee_hz']:,.0f}" for name, table in found["engines"].items())
    head = ("engine", "events/s", "sent/s", "p50, ms", "p99", "p99.9", "p99 from ingest",
            "events a batch", "without decision")  # fmt: skip
    knee = f"Highest rate at which p99 keeps the latency budget, events/s: {', '.join(knees)}."
    return [*rows(head, lines), "", knee]


#: Result and function of each block.
_TABLES: dict[str, tuple[str, Callable[[Table], list[str]]]] = {
    "cosmics-sample": ("evaluate-cosmics", _cosmics_sample),
    "cosmics-models": ("evaluate-cosmics", _cosmics_models),
    "antihydrogen-coverage": ("evaluate-antihydrogen", _antihydrogen_coverage),
    "antihydrogen-clusters": ("evaluate-antihydrogen", _antihydrogen_clusters),
    "antihydrogen-areas": ("evaluate-antihydrogen", _antihydrogen_areas),
    "antihydrogen-variants": ("evaluate-antihydrogen", _antihydrogen_variants),
    "jets-trainings": ("evaluate-jets", _jets_trainings),
    "jets-significance": ("evaluate-jets", _jets_significance),
    "jets-masses": ("evaluate-jets", _jets_masses),
    "jets-models": ("evaluate-jets", _jets_models),
    "latency": ("bench-latency", _latency),
    **{name: ("evaluate-wafers", table) for name, table in WAFER_TABLES.items()},
}


def _block(result: str, table: Callable[[Table], list[str]], read: Read) -> str:
    stored = read(result)
    return "\n".join([*table(stored["result"]), "", source(stored)])


#: Makes each block from the stored results.
BLOCKS: dict[str, Callable[[Read], str]] = {
    name: partial(_block, result, table) for name, (result, table) in _TABLES.items()
}
