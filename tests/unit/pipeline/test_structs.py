"""Structs with many fields are built by keyword: values in a row are easily swapped unnoticed."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import msgspec
import pytest

from sluice import pipeline

#: Fields from which on a call with positional values is not readable any more.
MAX_POSITIONAL = 5
#: Classes with more, and why they are built by position all the same.
EXCEPTIONS = {
    "sluice.pipeline.core.schema.Column": "a line of a table: name, dtype, item shape, unit",
    "sluice.pipeline.inference.manifest.Tensor": "a line of a table: name, dtype, shape",
}


def classes() -> Iterator[type]:
    """Yield every class that a module of the pipeline defines, nested ones too."""
    for info in pkgutil.walk_packages(pipeline.__path__, f"{pipeline.__name__}."):
        if info.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError:  # an extra that is not installed here
            continue
        yield from nested(module, info.name)


def nested(owner: object, module: str) -> Iterator[type]:
    for value in vars(owner).values():
        if inspect.isclass(value) and value.__module__ == module:
            yield value
            yield from nested(value, module)


def positional(cls: type) -> list[str]:
    """Return the fields that may be given by position, for structs and dataclasses.

    Tuples are left out: their fields have an order, by which they are unpacked. A NamedTuple has no
    other way to be built.
    """
    if not issubclass(cls, msgspec.Struct) and not dataclasses.is_dataclass(cls):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(cls).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


ALL = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes()}


def test_structs_of_many_fields_are_built_by_keyword():
    """Else a new field in the middle shifts all behind it."""
    assert len([cls for cls in ALL.values() if issubclass(cls, msgspec.Struct)]) > 30
    found = {name for name, cls in ALL.items() if len(positional(cls)) > MAX_POSITIONAL}
    assert found == set(EXCEPTIONS)


@pytest.mark.parametrize("name", ["engine.base.RunContext", "journal.commit.CommitRecord"])
def test_values_in_a_row_are_refused(name):
    with pytest.raises(TypeError):
        ALL[f"sluice.pipeline.{name}"](*range(11))
