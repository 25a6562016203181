"""Arguments of every GPU kernel, as a batch of events has them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from sluice.kernels import wafer
from sluice.kernels.antihydrogen import strips
from sluice.kernels.wafer import codecs

#: Distinct events to draw; larger numbers repeat them.
_DISTINCT = 4096
#: Length and padded length of the lists to pad: those of a jet, half of the items filled.
_LIST, _WIDTH = 64, 128

Arguments = tuple[Any, ...]


class Case(NamedTuple):
    """A kernel and its arguments.

    Attributes
    ----------
    kernel
        Name of the kernel that is launched.
    module, function
        Module of `sluice.kernels.cuda` and function in it that launches the kernel.
    arguments
        Function of a number of events that returns the kernel's NumPy arrays and numbers.
    max_events
        Limit on the events of a launch; lower for kernels bound by computation.
    """

    kernel: str
    module: str
    function: str
    arguments: Callable[[int], Arguments]
    max_events: int = 1 << 22

    def call(self) -> Callable[..., None]:
        """Return the function that launches the kernel."""
        launch: Callable[..., None] = getattr(
            import_module(f"sluice.kernels.cuda.{self.module}"), self.function
        )
        return launch

    def bytes_per_event(self) -> float:
        """Return the bytes that an event moves, each counted once; constants are left out."""
        few, more = (
            sum(a.nbytes for a in self.arguments(n) if isinstance(a, np.ndarray)) for n in (64, 128)
        )
        return (more - few) / 64


def _again(array: Any, events: int) -> Any:
    return np.resize(array, (events, *array.shape[1:]))


def _charge(events: int) -> Any:
    rng = np.random.default_rng(1)
    return _again(rng.gamma(0.3, 900, (_DISTINCT, 48)).astype(np.float32), events)


def _whole(events: int) -> Any:
    return np.floor(_charge(events))


def _words(events: int) -> Any:
    words = np.random.default_rng(2).integers(0, 1 << 32, (_DISTINCT, 12), dtype=np.uint32)
    return _again(words, events)


def _bytes(events: int, width: int) -> Any:
    drawn = np.random.default_rng(3).integers(0, 256, (_DISTINCT, width), dtype=np.uint8)
    return _again(drawn, events)


def _zeros(events: int, *shape: int, dtype: str = "f4") -> Any:
    return np.zeros((events, *shape), dtype)


def _normalise(n: int) -> Arguments:
    return _charge(n), _zeros(n, 8, 8), _zeros(n), _zeros(n, dtype="u1")


def _quantise_pack(n: int) -> Arguments:
    latent = np.random.default_rng(4).normal(0.5, 0.8, (_DISTINCT, 16)).astype(np.float32)
    packed = _zeros(n, wafer.packed_bytes(9), dtype="u1")
    return _again(latent, n), _charge(n)[:, 0].copy(), 9, packed, _zeros(n, 16), _zeros(n)


def _images(n: int) -> Arguments:
    images = (_zeros(n, 2, strips.Z), _zeros(n, 2, strips.PHI))
    return _bytes(n, strips.BYTES), *images, _zeros(n, dtype="u1"), _zeros(n, dtype="u1")


def _emd(n: int) -> Arguments:
    p = _charge(n).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    return p, p[::-1].copy(), np.array(wafer.DISTANCE), _zeros(n, dtype="f8")


def _emd_pairs(n: int) -> Arguments:
    p = _charge(n)
    return p, p[::-1].copy(), np.array(wafer.DISTANCE), _zeros(n, dtype="f8")


def _pad(item_bytes: int) -> Callable[[int], Arguments]:
    def arguments(n: int) -> Arguments:
        offsets = np.arange(n + 1, dtype=np.int64) * _LIST
        values = np.resize(np.arange(251, dtype=np.uint8), n * _LIST * item_bytes)
        out = _zeros(n, _WIDTH * item_bytes, dtype="u1")
        rows = np.arange(n, dtype=np.int64)
        return values, offsets, rows, np.zeros(item_bytes, np.uint8), out, _zeros(n, dtype="i8")

    return arguments


CASES = (
    Case("unpack", "wafer", "unpack", lambda n: (_words(n), _zeros(n, 48))),
    Case("normalise", "wafer", "normalise", _normalise),
    Case("quantise_pack", "wafer", "quantise_pack", _quantise_pack),
    Case("unpack_latents", "wafer", "unpack_latents",
         lambda n: (_bytes(n, wafer.packed_bytes(9)), 9, _zeros(n, 16), _zeros(n))),
    Case("best_choice", "wafer.codecs", "best_choice",
         lambda n: (_whole(n), 9, True, 3, _zeros(n, 48))),
    Case("threshold", "wafer.codecs", "threshold",
         lambda n: (_whole(n), 47.25, True, -1, _zeros(n, 48), _zeros(n, dtype="i8"))),
    Case("super_trigger_cell", "wafer.codecs", "super_trigger_cell",
         lambda n: (_whole(n), codecs.GROUPS_OF_16, False, 3, _zeros(n, 48))),
    Case("repeater", "wafer.codecs", "repeater", lambda n: (_whole(n), 1, _zeros(n, 48))),
    Case("unpack_strips", "antihydrogen.strips", "unpack_strips",
         lambda n: (_bytes(n, strips.BYTES), _zeros(n, strips.STRIPS, dtype="u1"))),
    Case("images", "antihydrogen.strips", "to_images", _images),
    Case("emd", "emd.exact", "emd", _emd, 1 << 15),
    Case("emd_pairs", "emd.exact", "emd_pairs", _emd_pairs, 1 << 15),
    Case("pad, words", "ragged", "pad", _pad(28)),
    Case("pad, bytes", "ragged", "pad", _pad(7)),
)  # fmt: skip
