"""Plain functions as stages: arrays in, arrays out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import msgspec

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, did_you_mean
from sluice.pipeline.core.schema import Schema

Function = TypeVar("Function", bound=Callable[..., Any])

_BATCH = "batch"


def stage(*, consumes: Schema, provides: Schema) -> Callable[[Function], Function]:
    """Let a graph file use a function as a stage: ``use = "file.py:function"``.

    The function itself is not changed; it can still be called and tested by itself.

    Parameters
    ----------
    consumes
        Columns that it reads.
    provides
        Columns that it returns.

    Returns
    -------
    callable
        The decorator. The function takes one parameter `batch`, an `EventBatch`, or parameters
        named as columns of `consumes`, arrays of shape (events, *item shape) or `Ragged`. It
        returns a dict of arrays by column name, or the arrays in the order of `provides`: one array
        alone, or a tuple. Keyword-only parameters with a type and a default are its options, keys
        of the graph file.

    Raises
    ------
    ConfigError
        If a parameter is neither `batch` nor a column of `consumes`, or an option has no default.

    Examples
    --------
    >>> import numpy as np
    >>> from sluice.pipeline.core.schema import Column
    >>> charge = Column("charge", "float32", (48,), "ADC")
    >>> @stage(consumes=Schema([charge]), provides=Schema([Column("hits", "uint16")]))
    ... def hits(charge, *, threshold: float = 100.0):
    ...     return (charge > threshold).sum(axis=1).astype(np.uint16)
    >>> hits(np.full((2, 48), 150.0)).tolist()
    [48, 48]
    """

    def decorate(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        inputs = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        for name in inputs:
            if name not in consumes and inputs != [_BATCH]:
                raise ConfigError(
                    f"stage {function.__name__!r}: parameter {name!r}: expected `batch` alone, or "
                    "names of columns that it consumes",
                    did_you_mean(name, consumes.names),
                )
        body = {
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "Options": _options(function),
            "consumes": consumes,
            "provides": provides,
            "_function": staticmethod(function),
            "_inputs": None if inputs == [_BATCH] else tuple(inputs),
        }
        function.component_class = type(function.__name__, (FunctionStage,), body)  # type: ignore[attr-defined]
        return function

    return decorate


def _options(function: Callable[..., Any]) -> type[msgspec.Struct]:
    """Return a struct of the keyword-only parameters of a function."""
    hints = get_type_hints(function)
    fields: list[tuple[str, Any, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.default is parameter.empty or parameter.name not in hints:
            raise ConfigError(
                f"stage {function.__name__!r}: option {parameter.name!r}: expected a type and a "
                "default, such as `threshold: float = 100.0`"
            )
        fields.append((parameter.name, hints[parameter.name], parameter.default))
    return msgspec.defstruct("Options", fields, frozen=True, forbid_unknown_fields=True)


class FunctionStage:
    """Base class of the stages that the decorator `stage` makes."""

    Options: type[msgspec.Struct]
    consumes: Schema
    provides: Schema
    _function: Callable[..., Any]
    _inputs: tuple[str, ...] | None

    def __init__(self, name: str, options: msgspec.Struct) -> None:
        self.name = name
        self._keywords: dict[str, Any] = msgspec.structs.asdict(options)

    def open(self, events: int) -> None:
        """Do nothing: there is nothing to load."""

    def process(self, batch: EventBatch) -> EventBatch:
        """Return the batch with the columns that the function returns."""
        if self._inputs is None:
            returned = self._function(batch, **self._keywords)
        else:
            arrays = (batch.columns[name] for name in self._inputs)
            returned = self._function(*arrays, **self._keywords)
        return batch.with_columns(**self._by_name(returned))

    def _by_name(self, returned: Any) -> dict[str, Any]:
        names = self.provides.names
        if isinstance(returned, Mapping):
            return {name: returned[name] for name in names if name in returned}
        arrays = returned if isinstance(returned, tuple) else (returned,)
        if len(arrays) != len(names):
            raise ConfigError(
                f"stage {self.name!r}: expected {len(names)} arrays ({', '.join(names)}), "
                f"got {len(arrays)}"
            )
        return dict(zip(names, arrays, strict=True))

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
