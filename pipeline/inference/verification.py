"""Verification of loaded models: golden outputs, and outputs that depend on the event alone.

An event's outputs must not depend on the events beside it in a batch, on their order or number, or
on chance: else no run could be repeated, and decisions would depend on the rate of the events.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sluice.pipeline.core.errors import ModelError, SluiceError
from sluice.pipeline.core.schema import Array

from .manifest import Tensor
from .onnx_file import read_onnx_file
from .repository import Model

if TYPE_CHECKING:
    from .session import Session

Arrays = dict[str, Array]

#: Events that are processed alone; size of the smallest batch, and factor to the next size.
_ALONE, _SMALLEST, _GROWTH = 8, 3, 6
#: Bounds of a batch: time of the processor that a smaller one takes, s, and bytes of its inputs.
_CALL_S, _CALL_BYTES = 0.005, 1 << 22
#: Factor of the events that stand beside the golden ones: a range over the batch changes with it.
_OTHER_SCALE = 8
#: Differences that rounding causes, and that no tolerance allows, relative to the outputs' maximum.
_ROUNDING, _MAX_DIFFERENCE = 1e-5, 0.01
#: Operators that make outputs depend on the batch or on chance: the cause and the remedy.
_CAUSES = {
    ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"): (
        "takes the range of its input from the whole batch: quantise with fixed ranges, "
        "`quantize_static` of ONNX Runtime"
    ),
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
     "Multinomial", "Dropout"): (
        "draws random numbers: export the model in evaluation mode"
    ),
    ("BatchNormalization",): (
        "takes mean and variance of the batch in training mode: export the model in evaluation mode"
    ),
}  # fmt: skip


def require_golden_outputs(model: Model, session: Session, tolerance: float) -> None:
    """Compare a session's outputs with the golden outputs.

    Parameters
    ----------
    model, session
        The model, and its session.
    tolerance
        Maximum absolute difference.

    Raises
    ------
    ModelError
        If the golden file does not fit the manifest or has values that are not finite, the runtime
        cannot run the model, or its outputs differ.
    """
    inputs, expected = _golden(model)
    got = _run(model, session, inputs)
    for name, array in expected.items():
        worst = float(np.max(_differences(got[name], array), initial=0.0))
        if not worst <= tolerance:
            raise ModelError(
                f"model {model.label}: output {name!r} on {session.backend}: expected the golden "
                f"outputs within {tolerance:g}, got a difference of {worst:g}",
                hint="the model or its runtime changed: export it again, or raise its tolerance",
            )


def require_function_of_event(
    model: Model, session: Session, tolerance: float, max_events: int
) -> None:
    """Compare the outputs of the golden events in several batches with those in one batch.

    The batches: the same again, the events in reverse order, each alone, beside other events, and
    in several sizes up to `max_events`.

    Parameters
    ----------
    model, session
        The model, and its session.
    tolerance
        Maximum absolute difference; at most 1 % of the largest output is allowed.
    max_events
        Size of the largest batch; a slow model is tried with smaller ones only.

    Raises
    ------
    ModelError
        With what the outputs depend on, and with its cause where the model file shows it.
    """
    inputs, _ = _golden(model)
    whole = _run(model, session, inputs)
    for trial in _trials(model, session, inputs, max_events):
        got = _run(model, session, trial.inputs)
        for name, array in got.items():
            expected = whole[name][trial.rows]
            worst = _difference(array[: len(trial.rows)], expected, tolerance, model)
            if worst:
                raise ModelError(
                    f"model {model.label}: output {name!r} on {session.backend}: expected outputs "
                    f"that depend on the event alone, got a difference of {worst:g} {trial.what}",
                    hint=_cause(model),
                )


class _Trial(NamedTuple):
    """A batch to try.

    Attributes
    ----------
    what
        What is different from the golden events in one batch, for messages.
    inputs
        Inputs of the batch.
    rows
        Golden events that are the first of the batch, by index.
    """

    what: str
    inputs: Arrays
    rows: Array


def _trials(model: Model, session: Session, inputs: Arrays, max_events: int) -> Iterator[_Trial]:
    events = _events(inputs)
    order = np.arange(events)
    yield _Trial("when the same batch is processed again", inputs, order)
    yield _selected("with the events in reverse order", inputs, order[::-1])
    for row in range(min(events, _ALONE)):
        yield _selected("when an event is alone in its batch", inputs, order[row : row + 1])
    others = {t.name: _others(t, inputs[t.name]) for t in model.manifest.inputs}
    both = {name: np.concatenate((array, others[name])) for name, array in inputs.items()}
    yield _Trial("with other events in the batch", both, order)
    for size in _sizes(inputs, max_events):
        yield _selected(f"in a batch of {size} events", inputs, np.resize(order, size))


def _selected(what: str, inputs: Arrays, rows: Array) -> _Trial:
    return _Trial(what, {name: array.take(rows, axis=0) for name, array in inputs.items()}, rows)


def _others(tensor: Tensor, array: Array) -> Array:
    """Return valid inputs with other values: larger ones, where any number is valid."""
    if np.dtype(tensor.dtype).kind != "f" or tensor.companion_of:
        return array[::-1]
    limits = np.finfo(array.dtype)
    with np.errstate(over="ignore"):
        scaled: Array = array[::-1] * array.dtype.type(_OTHER_SCALE)
    return scaled.clip(limits.min, limits.max)


def _sizes(inputs: Arrays, max_events: int) -> Iterator[int]:
    """Yield sizes of batches up to `max_events`, as long as they stay within the bounds."""
    event_bytes = sum(array.nbytes for array in inputs.values()) // _events(inputs)
    size, took_s = min(_SMALLEST, max_events), 0.0
    while took_s < _CALL_S:
        start_s = time.thread_time()  # of the processor, which other programs may use
        yield size
        took_s = time.thread_time() - start_s
        largest = min(max_events, _CALL_BYTES // max(1, event_bytes))
        if size >= largest:
            return
        size = min(_GROWTH * size, largest)


def _difference(got: Array, expected: Array, tolerance: float, model: Model) -> float:
    """Return the largest difference; 0 if it is what the tolerance and rounding allow.

    Rounding may differ between batches, and in a quantised model a rare difference may be as large
    as a step of the quantisation. But if half of the events differ by more than rounding, the
    outputs depend on the batch, whatever the tolerance.
    """
    if np.array_equal(got, expected):
        return 0.0
    span = max(1.0, float(np.max(np.abs(_finite(expected)), initial=0.0)))
    by_event = _differences(got, expected).reshape(len(expected), -1).max(axis=1, initial=0.0)
    allowed = min(max(tolerance, _ROUNDING * span), _MAX_DIFFERENCE * span)
    typical = allowed if model.manifest.precision == "fp16" else min(allowed, 10 * _ROUNDING * span)
    if by_event.max() <= allowed and np.median(by_event) <= typical:
        return 0.0
    return float(by_event.max())


def _cause(model: Model) -> str:
    """Return what makes the outputs depend on more than the event, and what to do about it."""
    operators = read_onnx_file(model.path, model.label).operators
    found = [
        f"{', '.join(sorted(operators & set(names)))} {text}"
        for names, text in _CAUSES.items()
        if operators & set(names)
    ]
    return "\n  ".join(found) or (
        "a mean or a range over the batch axis does so, as batch normalisation in training mode: "
        "export the model in evaluation mode"
    )


def _golden(model: Model) -> tuple[Arrays, Arrays]:
    """Return golden inputs and outputs that fit the manifest and are finite."""
    inputs, outputs = model.golden()
    events = _events(inputs)
    if events == 0:
        raise ModelError(f"model {model.label}: its golden file has no events")
    both = ((model.manifest.inputs, inputs), (model.manifest.outputs, outputs))
    for tensor, array in ((t, arrays[t.name]) for tensors, arrays in both for t in tensors):
        if array.dtype != tensor.dtype or not tensor.matches(array.shape, events):
            raise ModelError(
                f"model {model.label}: golden {tensor.name!r}: expected {events} events of "
                f"{tensor.column.spec}, got {array.dtype} {array.shape}"
            )
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise ModelError(
                f"model {model.label}: golden output {name!r}: expected finite numbers, got NaN or "
                "infinity",
                hint="take golden events for which the model is defined",
            )
    return inputs, outputs


def _events(inputs: Mapping[str, Array]) -> int:
    return len(next(iter(inputs.values())))


def _run(model: Model, session: Session, inputs: Arrays) -> Arrays:
    """Return the outputs of a session; whatever a runtime raises is an error of the model."""
    events = _events(inputs)
    outputs: Arrays = {t.name: t.column.empty(events) for t in model.manifest.outputs}
    contiguous = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    try:
        session.infer(contiguous, outputs)
    except SluiceError:
        raise
    except Exception as error:  # runtimes raise anything
        raise ModelError(
            f"model {model.label}: {session.backend} cannot run it on {events} events: {error}",
            hint="it must take any number of events at once: export it with a batch axis of any "
            "size, without fixed sizes inside",
        ) from error
    return outputs


def _differences(got: Array, expected: Array) -> Array:
    """Return absolute differences, float64; NaN differs from all but NaN."""
    with np.errstate(invalid="ignore"):
        differences = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    same = (got == expected) | ((got != got) & (expected != expected))
    return np.where(same, 0.0, np.where(np.isnan(differences), np.inf, differences))


def _finite(array: Array) -> Array:
    return np.where(np.isfinite(array), array, 0).astype(np.float64)
