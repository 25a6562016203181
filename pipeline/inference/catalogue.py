"""Catalogue of the models in all repositories, checked against their manifests."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from sluice.pipeline.core.errors import ModelError

from .onnx_file import read_onnx_file
from .repository import all_models, read_model


class Catalogue(NamedTuple):
    """Models of all repositories.

    Attributes
    ----------
    models
        Manifests of the valid models as plain values, with ``bytes``, the size of the model file,
        and ``fixed_batch``, the number of events that each call takes, 0 for any number.
    refused
        Error messages of the models that cannot be used.
    """

    models: list[dict[str, Any]]
    refused: list[ModelError]


def read_catalogue() -> Catalogue:
    """Read every model of the repositories; each file's hash is checked."""
    found = Catalogue([], [])
    for folder in all_models():
        try:
            model = read_model(folder)
        except ModelError as error:
            found.refused.append(error)
        else:
            size = model.path.stat().st_size
            fixed = read_onnx_file(model.path, model.label).fixed_batch
            more = {"bytes": size, "fixed_batch": fixed}
            found.models.append({**msgspec.to_builtins(model.manifest), **more})
    return found
