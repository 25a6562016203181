"""A model that is not what its manifest says is refused, and the refusal says which and what."""

from __future__ import annotations

import hashlib
import re
import shutil

import numpy as np
import pytest

from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.inference.repository import all_models, find_model, read_model
from sluice.pipeline.inference.session import open_session


@pytest.fixture
def tagger(my_models):
    return my_models / "wafer-tagger" / "1"


def edit(folder, old, new):
    path = folder / "manifest.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def reseal(folder):
    """Write the true hashes into the manifest: only the content lies now."""
    path = folder / "manifest.toml"
    lines = []
    for line in path.read_text().splitlines():
        for key, name in (("sha256", "model.onnx"), ("golden_sha256", "golden.npz")):
            if line.startswith(f"{key} = "):
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                line = f'{key} = "{digest}"'
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


def rewrite_golden(folder, **changed):
    with np.load(folder / "golden.npz") as file:
        arrays = {**file, **changed}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(folder / "golden.npz", **arrays)
    reseal(folder)


def golden(folder, name):
    with np.load(folder / "golden.npz") as file:
        return file[name]


def refusal(call, kind=ModelError):
    with pytest.raises(kind) as caught:
        call()
    assert "wafer-tagger" in str(caught.value)
    return str(caught.value)


def open_tagger(backend="onnxruntime:cpu"):
    open_session(find_model("wafer-tagger"), backend, "stage 'tag'").close()


def test_shipped_models_tell_the_truth():
    for folder in all_models():
        session = open_session(read_model(folder), "onnxruntime:cpu", "here")
        assert session.backend == "onnxruntime:cpu"
        session.close()


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_wrong_hash(tagger, name):
    path = tagger / name
    path.write_bytes(path.read_bytes() + b"\0")
    text = refusal(open_tagger)
    for word in (
        name,
        "expected sha256",
        "got",
        hashlib.sha256(path.read_bytes()).hexdigest()[:12],
    ):
        assert word in text


def test_missing_files(tagger):
    for name in ("golden.npz", "model.onnx"):
        (tagger / name).rename(tagger / "aside")
        assert name in refusal(open_tagger)
        (tagger / "aside").rename(tagger / name)
    (tagger / "manifest.toml").unlink()
    assert "manifest.toml is missing" in refusal(open_tagger)


def test_manifest_that_is_no_manifest(tagger):
    path = tagger / "manifest.toml"
    good = path.read_text()
    path.write_text(good.replace("version = 1", "versoin = 1", 1))
    assert "did you mean 'version'?" in refusal(open_tagger)
    path.write_text(good.replace('dtype = "float32"', 'dtyp = "float32"', 1))
    assert "did you mean 'dtype'?" in refusal(open_tagger)
    path.write_text(good.replace("opset = ", "opset = 'x' #"))
    assert "opset" in refusal(open_tagger)
    path.write_text(good + "\n[[[\n")
    assert "manifest.toml" in refusal(open_tagger)
    path.write_bytes(b"\xff\xfe")
    assert "manifest.toml" in refusal(open_tagger)
    path.write_text(good.replace('sha256 = "', 'sha256 = "0', 1))
    assert "expected sha256" in refusal(open_tagger)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shape = [\n    3,\n]", "shape = [2]", ("'score'", "float32[2]", "[3]")),
        ("shape = [\n    3,\n]", "shape = [3, 1]", ("'score'", "float32[3,1]", "[3]")),
        ("shape = [\n    3,\n]", "shape = []", ("'score'", "[3]")),
        ("shape = [\n    16,\n]", "shape = [17]", ("'latent_q'", "float32[17]", "[16]")),
        ('name = "score"\ndtype = "float32"', 'name = "score"\ndtype = "float64"', ("float64",)),
        ('name = "score"', 'name = "scores"', ("'scores'", "'score'")),
        ('name = "sum_q"', 'name = "total"', ("'total'", "'sum_q'")),
        ('dtype = "float32"', 'dtype = "floot32"', ("floot32",)),
    ],
)
def test_tensors_that_the_file_has_not(tagger, old, new, words):
    edit(tagger, old, new)
    text = refusal(open_tagger)
    for word in words:
        assert word in text


def test_golden_outputs_that_differ(tagger):
    score = golden(tagger, "out_score").copy()
    score[3, 1] += 0.01
    rewrite_golden(tagger, out_score=score)
    text = refusal(open_tagger)
    assert "'score'" in text
    assert "0.01" in text
    score[3, 1] = np.nan
    rewrite_golden(tagger, out_score=score)
    assert "'score'" in refusal(open_tagger)


def test_golden_outputs_within_the_tolerance_are_fine(tagger):
    rewrite_golden(tagger, out_score=golden(tagger, "out_score") + np.float32(5e-6))
    open_tagger()


@pytest.mark.parametrize(
    "change",
    [
        {"out_score": None},
        {"in_sum_q": None},
        {"out_score": np.zeros((5, 3), np.float32)},
        {"out_score": np.zeros((8, 2), np.float32)},
        {"in_latent_q": np.zeros((8, 15), np.float32)},
        {"in_sum_q": np.zeros(8, np.float64)},
    ],
)
def test_golden_file_with_other_arrays(tagger, change):
    rewrite_golden(tagger, **change)
    refusal(open_tagger)


def test_golden_file_without_events_proves_nothing(tagger):
    empty = {name: golden(tagger, name)[:0] for name in ("in_latent_q", "in_sum_q", "out_score")}
    rewrite_golden(tagger, **empty)
    assert "no events" in refusal(open_tagger)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_rubbish_with_a_true_hash(tagger, name):
    (tagger / name).write_bytes(b"rubbish" * 100)
    reseal(tagger)
    refusal(open_tagger)


def test_golden_file_with_a_pickle_is_not_loaded(tagger):
    np.savez(tagger / "golden.npz", in_latent_q=np.array([{"a": 1}], dtype=object))
    reseal(tagger)
    refusal(open_tagger)


def test_backends_that_are_not_there():
    with pytest.raises(ConfigError, match="did you mean 'onnxruntime'"):
        open_tagger("onnxruntim:cpu")
    text = refusal(lambda: open_tagger("onnxruntime:tpu"))
    assert "'tpu'" in text
    assert "cpu" in text


def test_versions(my_models, tagger):
    shutil.copytree(tagger, tagger.with_name("2"))
    edit(tagger.with_name("2"), "version = 1", "version = 2")
    (tagger.with_name("draft")).mkdir()
    assert find_model("wafer-tagger").manifest.version == 2
    assert find_model("wafer-tagger", 1).manifest.version == 1
    assert "[1, 2]" in refusal(lambda: find_model("wafer-tagger", 3))
    shutil.rmtree(tagger.with_name("2"))
    shutil.rmtree(tagger)
    refusal(lambda: find_model("wafer-tagger"))


def test_names(my_models):
    assert "did you mean 'wafer-tagger'?" in refusal(lambda: find_model("wafer-tager"))


def test_a_repository_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="nowhere"):
        find_model("wafer-tagger")
    with pytest.raises(ModelError, match="nowhere"):
        all_models()


@pytest.mark.parametrize(("key", "value"), [("min", 0), ("opt", 0), ("max", 1023)])
def test_sizes_out_of_order(tagger, key, value):
    path = tagger / "manifest.toml"
    text, changed = re.subn(rf"(?m)^{key} = \d+$", f"{key} = {value}", path.read_text())
    assert changed == 1
    path.write_text(text)
    assert "min <= opt <= max" in refusal(lambda: find_model("wafer-tagger"))
