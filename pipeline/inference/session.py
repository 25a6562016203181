"""Sessions: models loaded by a runtime. Entry-point group ``sluice.backends``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

from sluice.pipeline.config.plugins import load_class
from sluice.pipeline.core.schema import Array

from .repository import Model
from .verification import require_function_of_event, require_golden_outputs

DEFAULT = "onnxruntime:cpu"


class Session(Protocol):
    """A loaded model, made by ``Backend(model, device)``.

    Attributes
    ----------
    backend
        Runtime and device that run it, such as ``onnxruntime:cpu``.
    """

    backend: str

    def infer(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Fill `outputs` from `inputs`: C-contiguous arrays (N, ...) by tensor name."""

    def close(self) -> None:
        """Release the model and its memory."""


@runtime_checkable
class ChecksAvailability(Protocol):
    """A backend that needs a device, or more libraries than its own module imports."""

    @staticmethod
    def require_available(device: str) -> None:
        """Raise ModelError if the device or a library is missing; loads no model."""


@runtime_checkable
class HasTolerance(Protocol):
    """A session that may compute in a lower precision than its model's.

    Attributes
    ----------
    tolerance
        Maximum absolute difference from the golden outputs that this precision may cause.
    """

    tolerance: float


#: Capabilities of backends and of the sessions that they make.
CAPABILITIES = (ChecksAvailability, HasTolerance)


def require_backend(backend: str, where: str) -> None:
    """Check that ``runtime:device`` can be used on this machine; loads no model.

    Raises
    ------
    SluiceError
        If something is missing; with the command that installs it.
    """
    runtime, _, device = backend.partition(":")
    backend_class = load_class("backend", runtime, where)
    if isinstance(backend_class, ChecksAvailability):
        backend_class.require_available(device)


def open_session(model: Model, backend: str, where: str) -> Session:
    """Load `model` on ``runtime:device`` and check it against its golden outputs.

    Raises
    ------
    ModelError
        If the runtime cannot load it, its tensors are not those of its manifest, or its golden
        outputs differ by more than the manifest's tolerance.
    """
    runtime, _, device = backend.partition(":")
    session: Session = load_class("backend", runtime, where)(model, device)
    with _closed_on_error(session):
        require_golden_outputs(model, session, _tolerance(model, session))
    return session


def open_verified_session(model: Model, backend: str, where: str, max_events: int) -> Session:
    """Open a session, and check that its outputs depend on the event alone.

    Parameters
    ----------
    model, backend, where
        As `open_session`.
    max_events
        Number of events of the largest batch that is tried.

    Raises
    ------
    ModelError
        As `open_session`, or if the outputs depend on the batch or on chance.
    """
    session = open_session(model, backend, where)
    with _closed_on_error(session):
        require_function_of_event(model, session, _tolerance(model, session), max_events)
    return session


@contextmanager
def _closed_on_error(session: Session) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Exception):  # an error of close would hide the first
            session.close()
        raise


def _tolerance(model: Model, session: Session) -> float:
    """Return the maximum absolute difference from the golden outputs that a session may have."""
    if isinstance(session, HasTolerance):
        return max(model.manifest.tolerance, session.tolerance)
    return model.manifest.tolerance
