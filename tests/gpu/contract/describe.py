"""Print what a TensorRT binding has, JSON: run as a program with the binding on PYTHONPATH."""

import inspect
import json
import sys
from typing import Any


def _signatures(doc: str | None, name: str) -> list[str]:
    """Return the signatures that pybind11 puts at the beginning of a docstring."""
    lines = [line.strip() for line in (doc or "").splitlines()]
    found = [line.split(". ", 1)[-1] for line in lines if f"{name}(" in line and "->" in line]
    return [line for line in found if line.startswith(f"{name}(")]


def _member(cls: Any, name: str) -> dict[str, Any] | None:
    value = inspect.getattr_static(cls, name)
    if isinstance(value, type):
        return {"class": _class(value)}
    if isinstance(value, property):
        doc = (value.fget.__doc__ or "").strip().splitlines()
        kind = doc[0].split("->")[-1].strip() if doc and "->" in doc[0] else "typing.Any"
        return {"property": kind, "settable": value.fset is not None}
    bound = getattr(cls, name)
    if callable(bound):
        return {"method": _signatures(bound.__doc__, name)}
    return {"value": type(bound).__qualname__}


def _class(cls: Any) -> dict[str, Any]:
    own = [name for name in vars(cls) if not name.startswith("_")]
    special = ("__init__", "__len__", "__getitem__", "__int__", "__iter__")
    kept = [*own, *(name for name in special if name in vars(cls))]
    bases = [base.__name__ for base in cls.__bases__ if base.__module__ == cls.__module__]
    return {"bases": bases, "members": {name: _member(cls, name) for name in kept}}


def describe(module: Any) -> dict[str, Any]:
    """Return classes with their members, functions, and the version."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {
        "version": module.__version__,
        "classes": {n: _class(v) for n, v in public.items() if isinstance(v, type)},
        "functions": {
            name: list(inspect.signature(value).parameters)
            for name, value in public.items()
            if inspect.isfunction(value)
        },
    }


if __name__ == "__main__":
    import tensorrt_bindings

    sys.stdout.write(json.dumps(describe(tensorrt_bindings)))
