"""Every benchmark prints its result as JSON or as a table, with all its numbers."""

from __future__ import annotations

import json

import pytest

from sluice.benchmarks import cli

RESULTS = {
    "pipeline": {"rates": {"inline": 1500.0}, "ratios": {"inline": 0.754}},
    "families": {
        "families": [
            {
                "graph": "hgcal", "family": "wafers", "simulated_hz": 2500.0,
                "rates": {"inline": 3500.0, "distributed": 4500.0}, "accepted": 0.125,
            }
        ]
    },
    "emd": {
        "exact": {
            "kinds": {"dense": {"seconds_per_pair": 2e-5, "speedup_over_pot": 31.0}},
            "max_relative_error": 3e-12,
        },
        "surrogates": {"wafer-emd": {"seconds_per_pair": 4e-7, "speedup_over_pot": 812.0}},
    },
    "memory": {
        "growth_mb": {"sink": 0.5},
        "minutes": [
            {"events": 9000, "processes": {"sink": {"rss_mb": 77.5}}},
            {"events": 8000, "processes": {}},
        ],
    },
    "latency": {
        "engines": {
            "inline": {
                "knee_hz": 6000.0,
                "points": [
                    {
                        "offered_hz": 5000.0, "events_a_batch": 1.5,
                        "latency_s": {"p50": 0.001, "p99": 0.002, "p999": 0.003},
                        "ingest_latency_s": {"p99": 0.0015},
                        "lost": 11, "shed": 12, "dropped": 100, "invalid": 200, "failed": 400,
                        "narrowed": 13,
                    }
                ],
            }
        }
    },
}  # fmt: skip
SHOWN = {
    "pipeline": ["1,500", "0.754"],
    "families": ["hgcal", "wafers", "2,500", "3,500", "4,500", "0.125"],
    "emd": ["exact, dense", "20", "31", "wafer-emd", "0.4", "812", "error of exact: 3e-12"],
    "memory": ["sink", "9,000", "77.5", "8,000", "+0.5"],
    "latency": ["5,000", "1.00", "2.00", "3.00", "1.50", "723", "13", "knee at 6,000 events/s"],
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_json_is_the_result(name, capsys):
    cli._print(RESULTS[name], getattr(cli, f"_{name}_table"), as_json=True)
    assert json.loads(capsys.readouterr().out) == RESULTS[name]


@pytest.mark.parametrize("name", RESULTS)
def test_the_table_shows_every_number(name, capsys):
    cli._print(RESULTS[name], getattr(cli, f"_{name}_table"), as_json=False)
    text = capsys.readouterr().out
    assert all(number in text for number in SHOWN[name]), text
