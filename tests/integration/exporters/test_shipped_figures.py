"""Each manifest that ships says of its file what an evaluation measures, and where it is from."""

import re

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from sluice.exporters.evaluation.reference_data import find_study
from sluice.exporters.families.antihydrogen import evaluate as antihydrogen
from sluice.exporters.families.base import EvaluateOptions, get
from sluice.exporters.families.jets import evaluate as jets
from sluice.exporters.families.jets.study import archive
from sluice.exporters.families.wafers import evaluate as wafers
from sluice.exporters.families.wafers import manifest_metrics
from sluice.pipeline.inference.repository import find_family_models

FAMILIES = ("antihydrogen", "cosmics", "jets", "wafers")
#: Sums of floats in another order change the score of a few events: areas by less than this.
FLOAT_NOISE = {"rel": 1e-4, "abs": 1e-5}
MODELS = [(name, model) for name in FAMILIES for model in find_family_models(name)]


@pytest.fixture(scope="module")
def test_jets():
    return archive.read(find_study("jets"))[1]


def measure_wafers():
    return manifest_metrics.measure(wafers.models())


def measure_with_evaluate(family):
    return get(family).evaluate(EvaluateOptions())["models"]


def assert_as_in_manifests(family, found):
    promised = {one.manifest.name: one.manifest.metrics for one in find_family_models(family)}
    assert set(found) == set(promised)
    for name, metrics in promised.items():
        assert found[name] == pytest.approx(metrics, **FLOAT_NOISE), name


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", ["antihydrogen", "cosmics"])
def test_an_evaluation_measures_what_the_manifests_say(family):
    assert_as_in_manifests(family, measure_with_evaluate(family))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.data("calq/CALQ_output.csv")
def test_wafer_models_measure_what_the_manifests_say():
    assert_as_in_manifests("wafers", measure_wafers())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_jet_taggers_measure_what_the_manifests_say(test_jets):
    assert_as_in_manifests("jets", jets.models(test_jets))


def test_jet_taggers_measure_what_the_manifests_say_but_for_errors(test_jets, monkeypatch):
    monkeypatch.setattr(jets, "bootstrap_errors", lambda *_: {})
    found = jets.models(test_jets)
    assert len(found) == 7
    for model in find_family_models("jets"):
        name, metrics = model.manifest.name, model.manifest.metrics
        drawn = {"rejection_error", "inverse_jsd_error"}
        promised = {key: value for key, value in metrics.items() if key not in drawn}
        assert found[name] == pytest.approx(promised, **FLOAT_NOISE), name


@pytest.mark.parametrize("family", ["antihydrogen", "cosmics"])
def test_nothing_of_a_manifest_is_printed_as_a_result(family, monkeypatch):
    module = __import__(f"sluice.exporters.families.{family}.evaluate", fromlist=["evaluate"])
    monkeypatch.setattr(module, "EVENTS", 300)
    if family == "antihydrogen":
        monkeypatch.setattr(antihydrogen.data, "real", lambda _: None)
    found = get(family).evaluate(EvaluateOptions())
    promised = {
        value
        for one in find_family_models(family)
        for table in (one.manifest.metrics, one.manifest.trainings)
        for value in table.values()
    }
    assert not promised & set(numbers(found))


def numbers(found):
    """Yield every number with more digits than a round one, at any depth."""
    for value in found.values() if isinstance(found, dict) else found:
        if isinstance(value, dict | list):
            yield from numbers(value)
        elif isinstance(value, float) and not (1000 * value).is_integer():
            yield value


@pytest.mark.parametrize(("family", "model"), MODELS, ids=[m.manifest.name for _, m in MODELS])
def test_a_manifest_says_where_the_model_comes_from(family, model):
    training = model.manifest.training
    assert model.manifest.family == family
    assert re.fullmatch(r"[0-9a-f]{40}", training.commit)
    for digest in (training.dataset_sha256, training.recipe_sha256):
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert training.events > 0
    means = {
        name for name in model.manifest.trainings if f"{name}_spread" in model.manifest.trainings
    }
    assert means <= set(model.manifest.metrics)
