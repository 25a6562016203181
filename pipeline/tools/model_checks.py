"""Checks of all models of a graph, before a run takes its number, a socket or a file."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sluice.pipeline.graph.graph import Graph
from sluice.pipeline.inference.onnx_file import read_onnx_file
from sluice.pipeline.inference.repository import Model
from sluice.pipeline.inference.session import open_verified_session
from sluice.pipeline.stages.capabilities import LoadsModels

#: Backend that reads the ONNX file and can run blocks.
_RUNTIME = "onnxruntime"
#: Models that passed in this process, by manifest, backend and largest batch.
_passed: set[tuple[bytes, str, int]] = set()


def check_models(graph: Graph) -> None:
    """Load each model of a graph and check its outputs, unless this process has done so before.

    Models of stages, lower rungs, shadows and monitors are compared with their golden outputs,
    and their outputs must depend on the event alone.

    Raises
    ------
    SluiceError
        If a model cannot be loaded or fails a check.
    """
    events = graph.config.graph.batch_events
    for where, model, backend in _models(graph):
        key = (msgspec.json.encode(model.manifest), backend, events)
        if key in _passed:
            continue
        open_verified_session(model, backend, where, events).close()
        _passed.add(key)


def describe_blocks(graph: Graph) -> tuple[str, ...]:
    """Return a sentence on each model that takes a fixed number of events."""
    found = []
    for where, model, backend in _models(graph):
        events = read_onnx_file(model.path, model.label).fixed_batch
        if events and backend.startswith(_RUNTIME):
            found.append(
                f"{where}: model {model.label} takes {events} event{'s' if events > 1 else ''} a "
                f"call: batches run in blocks of {events}, slower than a model of any batch size"
            )
    return tuple(dict.fromkeys(found))


def _models(graph: Graph) -> Iterator[tuple[str, Model, str]]:
    """Yield where each model stands in the graph, the model and its backend."""
    shadows = ((f"shadow {shadow.name!r}", shadow.models()) for shadow in graph.shadows)
    parts = [
        (f"{kind} {part.name!r}", part.models())
        for kind, found in (("stage", graph.stages), ("monitor", graph.monitors))
        for part in found
        if isinstance(part, LoadsModels)
    ]
    for where, models in (*parts, *shadows):
        for model, backend in models:
            yield where, model, backend
