"""A daemon whose GPU is there, fails and comes back: the scrape and the run go on."""

from __future__ import annotations

import threading
import urllib.request

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from sluice.pipeline.config.graph_file import ComponentConfig, load_graph
from sluice.pipeline.gpu import nvml
from sluice.pipeline.run.run_numbers import UNNUMBERED
from sluice.pipeline.service import serve_http
from sluice.pipeline.service.run_graph import run_graph
from sluice.pipeline.service.session import RunOptions


class Gpus:
    """Answers each scrape in turn: a GPU, none that answers, a GPU again."""

    def __init__(self):
        self.asked, self.closed = 0, threading.Event()

    def samples(self):
        self.asked += 1
        if self.asked % 3 == 2:
            return [nvml.Sample(index=0, errors=9)]
        return [
            nvml.Sample(
                index=0, uuid="GPU-0", name="H100", busy=0.5, throttled={"hw_thermal": True}
            )
        ]

    def close(self):
        self.closed.set()


def run(wafers, monkeypatch, gpus):
    """Replay wafers, scraping all the while; return the report and what each scrape said."""
    config = load_graph("hgcal")
    config = replace(config, source=ComponentConfig("recording", "w", {"path": str(wafers)}),
                     sink=ComponentConfig("null", "null", {}))  # fmt: skip
    monkeypatch.setattr(serve_http, "start_sampler", lambda: gpus)
    where, scrapes = [], []

    def scrape(*_):
        if where:
            with urllib.request.urlopen(f"{where[0]}/metrics", timeout=10) as page:
                families = text_string_to_metric_families(page.read().decode())
                scrapes.append({family.name: family.samples for family in families})

    options = RunOptions(run=UNNUMBERED, engine="inline", rate_hz=20_000, http="127.0.0.1:0")
    return run_graph(config, options, scrape, where.append), scrapes


def test_a_gpu_that_fails_breaks_neither_scrape_nor_run(wafers, monkeypatch):
    gpus = Gpus()
    report, scrapes = run(wafers, monkeypatch, gpus)
    assert report["closed"]
    assert gpus.closed.is_set()
    assert len(scrapes) >= 3
    for there, gone, back in zip(scrapes[::3], scrapes[1::3], scrapes[2::3], strict=False):
        assert there["sluice_gpu_utilisation_ratio"][0].value == 0.5
        assert gone["sluice_gpu_utilisation_ratio"] == []
        assert gone["sluice_gpu_sample_errors"][0].value == 9
        assert back["sluice_gpu_throttled"][0].value == 1
        assert gone["sluice_events"]


def test_without_a_gpu_there_is_no_such_metric(wafers, monkeypatch):
    _, scrapes = run(wafers, monkeypatch, None)
    assert scrapes
    assert not [name for name in scrapes[-1] if name.startswith("sluice_gpu")]
