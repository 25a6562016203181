"""The page on models says of manifests and layers files what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sluice.kernels.layers import CUT, RELU, SOFTMAX
from sluice.pipeline.inference import manifest, repository
from sluice.pipeline.inference.repository import all_models, read_model

Rows = Callable[[str], list[list[str]]]
Section = Callable[[Path, str], str]


@pytest.fixture(scope="module")
def page(root: Path) -> Path:
    return root / "docs" / "reference" / "models.md"


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## Manifest", manifest.Manifest),
        ("### Tensors", manifest.Tensor),
        ("### Batch sizes", manifest.BatchSizes),
        ("### Training", manifest.Training),
    ],
)
def test_keys_and_defaults(
    page: Path, section: Section, rows: Rows, heading: str, kind: Any
) -> None:
    text = section(page, heading).partition("\n### ")[0]
    documented = {row[0]: row[2] for row in rows(text)}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert list(documented) == list(fields)
    for name, said in documented.items():
        if fields[name].required:
            assert said == "required", name
            continue
        made = fields[name].default_factory
        default = fields[name].default if made is msgspec.NODEFAULT else made()
        assert msgspec.convert(json.loads(said), type(default)) == default, name


@pytest.mark.parametrize("kind", [manifest.Preprocessing, manifest.ModelCard])
def test_keys_of_the_small_tables_are_named(page: Path, rows: Rows, kind: Any) -> None:
    key = {manifest.Preprocessing: "preprocessing", manifest.ModelCard: "card"}[kind]
    (meaning,) = (row[3] for row in rows(page.read_text()) if row[0] == key)
    assert {field.name for field in msgspec.structs.fields(kind)} <= set(
        re.findall(r"(?:`|^)(\w+)`", meaning)
    )


def test_renamed_keys_are_named(page: Path) -> None:
    text = page.read_text().partition("Keys of the release before")[2].partition("\n\n")[0]
    words = set(re.findall(r"`(\w+)`", text))
    for renamed in manifest.RENAMED_KEYS.values():
        assert {*renamed, *renamed.values()} <= words


def test_files(page: Path, rows: Rows) -> None:
    table = {row[0] for row in rows(page.read_text().partition("## Manifest")[0])}
    fields = {field.name: field.default for field in msgspec.structs.fields(manifest.Manifest)}
    assert table == {
        repository.MANIFEST, fields["file"], fields["golden"], repository._LAYERS,
    }  # fmt: skip


def test_arrays_of_layers_files(page: Path, section: Section, rows: Rows) -> None:
    arrays, bits = section(page, "## Layers file").split("| bit |")
    documented = {row[0]: row[1] for row in rows(arrays)}
    assert [int(row[0]) for row in rows("| bit |" + bits)] == [RELU, CUT, SOFTMAX]
    models = [model for model in map(read_model, all_models()) if model.manifest.layers]
    assert models
    for model in models:
        for name, array in model.layers().items():
            said = documented[re.sub(r"_\d+$", "_n", name)]
            dtype, _, shape = said.strip("`]").partition("[")
            axes = shape.split(",") if shape else []
            assert (array.dtype, array.ndim) == (np.dtype(dtype), len(axes)), (model.label, name)
            for axis, size in zip(axes, array.shape, strict=True):
                assert not axis.isdigit() or int(axis) == size, (model.label, name)
