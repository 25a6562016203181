"""Figures of the README and the docs are those of the stored results, and of no other origin."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from sluice.benchmarks.figures.blocks import BLOCKS
from sluice.benchmarks.figures.markdown import figure
from sluice.benchmarks.figures.results import COMMANDS, measure, read
from sluice.benchmarks.figures.run import RESULTS, pages, render
from sluice.pipeline.core.errors import RunError
from sluice.pipeline.inference.repository import find_family_models

BLOCK = re.compile(r"<!-- figures: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
#: A number with a unit that only a measurement gives.
MEASURED = re.compile(r"[\d.,]*\d ?(?:ns|us|µs|ms|(?:events|messages|GMAC|[kM])?/s|GB|MB|%)(?!\w)")
#: What looks like one and is a setting, by page.
SETTINGS = {
    "README.md": {"1 %"},
    "docs/performance.md": {"50,000 events/s", "20 messages/s"},
}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_has_the_figures_of_the_stored_results(page):
    text = page.read_text()
    assert render(text, partial(read, folder=RESULTS)) == text, "`make figures` writes them"


def test_every_block_is_in_one_page():
    found = [name for page in pages() for name in BLOCK.findall(page.read_text())]
    assert sorted(found) == sorted(BLOCKS)


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_a_result_names_its_command_date_and_machine(name):
    stored = read(name, RESULTS)
    assert stored["command"] == f"sluice {COMMANDS[name]}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", stored["date"])
    assert set(stored["machine"]) == {"processor", "cores", "load_before"}
    assert stored["result"]


FAMILIES = sorted(path.stem.removeprefix("evaluate-") for path in RESULTS.glob("evaluate-*.json"))


@pytest.mark.parametrize("family", FAMILIES)
def test_manifests_say_what_the_stored_evaluation_found(family):
    """The quick sibling of the test that evaluates each model."""
    found = read(f"evaluate-{family}", RESULTS)["result"]["models"]
    manifests = {one.manifest.name: one.manifest.metrics for one in find_family_models(family)}
    assert set(found) == set(manifests)
    for name, metrics in manifests.items():
        assert found[name] == pytest.approx(metrics, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("name", SETTINGS)
def test_prose_has_no_measured_figure(root: Path, name: str) -> None:
    text = BLOCK.sub("", (root / name).read_text())
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    # The table of other systems is copied from what `make bench-peers` prints.
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    assert {found.strip() for found in MEASURED.findall(prose)} <= SETTINGS[name]


def _command(folder: Path, script: str) -> Path:
    path = folder / "sluice"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_measurement_is_stored_with_its_command(tmp_path):
    sluice = _command(tmp_path, 'echo "{\\"asked\\": \\"$*\\"}"')
    measure("evaluate-cosmics", sluice, tmp_path)
    stored = read("evaluate-cosmics", tmp_path)
    assert stored["result"] == {"asked": "evaluate cosmics --json"}
    assert stored["command"] == "sluice evaluate cosmics --json"
    assert stored["machine"]["cores"] > 0


def test_a_command_that_fails_stores_nothing(tmp_path):
    sluice = _command(tmp_path, "echo no model >&2; exit 3")
    with pytest.raises(RunError, match="sluice evaluate jets --json: no model"):
        measure("evaluate-jets", sluice, tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_figure_has_its_error_and_as_many_digits():
    table = {"auc": 0.87654, "auc_error": 0.00321, "auc_spread": 0.02, "kept": 0.5}
    assert figure(table, "auc", 3) == "0.877 ± 0.003"
    assert figure(table, "auc", 2, "spread") == "0.88 ± 0.02"
    assert figure(table, "kept", 1) == "0.5"
    assert figure(table, "none", 1) == ""
