"""All files of a model are those of its manifest, lie in its folder, and are found by name only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sluice.pipeline.core.errors import ModelError
from sluice.pipeline.inference.onnx_file import read_onnx_file
from sluice.pipeline.inference.repository import (
    find_model,
    find_model_by_label,
    read_model,
    sha256,
    write_model,
)
from sluice.pipeline.inference.session import open_session

from .conftest import CLASSES, EVENTS, WEIGHTS, linear, serialised

pytestmark = pytest.mark.modules("onnx", "onnxruntime")


def external(folder: Path, location: str = "weights/model.bin") -> Path:
    """Write a model with its weights in another file; return the path of the ONNX file."""
    import onnx

    folder.mkdir(exist_ok=True)
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    model = onnx.load_from_string(serialised(linear()))
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def replace_file(folder: Path, path: Path) -> None:
    """Put another ONNX file into a model, with its true hash."""
    manifest = folder / "manifest.toml"
    text = manifest.read_text().replace(sha256(folder / "model.onnx"), sha256(path))
    shutil.copyfile(path, folder / "model.onnx")
    manifest.write_text(text)


def point_to(path: Path, location: str) -> None:
    """Let the weights of an ONNX file lie at another location."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())


def test_weights_in_another_file_are_hashed(save, tmp_path, repository):
    path = external(tmp_path / "made")
    plain = save(serialised(linear()))
    files = {"weights/model.bin": path.parent / "weights" / "model.bin"}
    model = write_model(
        repository, plain.manifest, path.read_bytes(), {"x": EVENTS}, {"y": EVENTS @ WEIGHTS},
        external=files,
    )  # fmt: skip
    session = open_session(read_model(model.folder), "onnxruntime:cpu", "here")
    got = np.empty((10, CLASSES), np.float32)
    session.infer({"x": EVENTS}, {"y": got})
    np.testing.assert_allclose(got, EVENTS @ WEIGHTS, atol=1e-5)
    session.close()
    before = model.manifest.digest
    weights = model.folder / "weights" / "model.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ModelError, match=r"model\.bin: expected sha256 .*, got"):
        find_model("mine")
    changed = write_model(
        repository, plain.manifest, path.read_bytes(), {"x": EVENTS}, {"y": EVENTS @ WEIGHTS},
        external={"weights/model.bin": tmp_path / "made" / "model.onnx"},
    )  # fmt: skip
    assert changed.manifest.sha256 == model.manifest.sha256
    assert changed.manifest.digest != before


def test_weights_that_the_manifest_does_not_name_are_refused(save, tmp_path):
    path = external(tmp_path / "made", "model.bin")
    folder = save(serialised(linear())).folder
    shutil.copyfile(path.parent / "model.bin", folder / "model.bin")
    replace_file(folder, path)
    with pytest.raises(ModelError, match=r"has weights in 'model\.bin', whose hash is not in"):
        find_model("mine")


@pytest.mark.parametrize("location", ["../model.bin", "/etc/passwd", "a/../../b", "", "..\\b"])
def test_weights_outside_the_folder_are_refused(save, tmp_path, location):
    path = external(tmp_path / "made", "model.bin")
    point_to(path, location)
    replace_file(save(serialised(linear())).folder, path)
    with pytest.raises(ModelError, match=r"expected a file in the model's folder, got"):
        find_model("mine")


def test_weights_of_a_subgraph_are_found(tmp_path):
    import onnx
    from onnx import helper

    path = external(tmp_path / "made", "model.bin")
    inner = onnx.load(path, load_external_data=False).graph
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    path.write_bytes(serialised(linear(nodes=[branch], c=np.array(True))))
    found = read_onnx_file(path, "mine/1")
    assert found.external == ("model.bin",)
    assert found.operators == {"If", "MatMul"}
    assert (found.ir_version, found.opsets) == (10, {"ai.onnx": 20, "ai.onnx.ml": 3})


@pytest.mark.parametrize("data", [b"", b"rubbish" * 100, b"\x08\x0a", b"\x3a\xff\xff\xff\xff\x7f"])
def test_what_is_no_onnx_file_is_refused(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="expected an ONNX file, got something else"):
        read_onnx_file(path, "mine/1")


@pytest.mark.parametrize("cut", [1, 20, 60, 100])
def test_a_file_that_is_cut_off_is_refused(tmp_path, cut):
    path = tmp_path / "model.onnx"
    path.write_bytes(serialised(linear())[:-cut])
    with pytest.raises(ModelError, match="expected an ONNX file"):
        read_onnx_file(path, "mine/1")


@pytest.mark.parametrize("key", ["file", "golden", "layers"])
def test_no_file_of_a_manifest_lies_elsewhere(save, key):
    manifest = save(serialised(linear())).folder / "manifest.toml"
    lines = [line for line in manifest.read_text().splitlines() if not line.startswith(f"{key} =")]
    manifest.write_text("\n".join([f'{key} = "../../other/1/model.onnx"', *lines]))
    with pytest.raises(
        ModelError, match=r"expected a file in the model's folder, got '\.\./\.\./other"
    ):
        find_model("mine")


@pytest.mark.parametrize(("old", "new"), [('"mine"', '"../mine"'), ("version = 1", "version = 2")])
def test_a_manifest_has_the_name_and_version_of_its_folder(save, old, new):
    manifest = save(serialised(linear())).folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(ModelError, match="expected the name and version of its folder, mine/1"):
        find_model("mine")


@pytest.mark.parametrize(
    "name", ["{}/mine", "../repository/mine", "./mine", "mine/", "..", ".", "", "mine/1", "a\0b"]
)
def test_a_path_is_no_name_of_a_model(save, repository, name):
    save(serialised(linear()))
    assert find_model_by_label("mine@1").label == "mine/1"
    for find in (find_model, find_model_by_label):
        with pytest.raises(ModelError, match="expected the name of a model"):
            find(name.format(repository))
