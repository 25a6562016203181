"""Readouts to train and to measure on, and the scores that a net gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.exporters.conversion.onnx_runner import Runner
from sluice.exporters.families.antihydrogen.data import unpacked
from sluice.kernels.antihydrogen.hodoscope import time_since_first_hit

from .simulate import simulate

_BLOCK = 16_384


@dataclass(frozen=True)
class Readouts:
    """Raw `strips` (N, 179) u8, `bars` (N, 64) u16 and `truth` (N,) u8, 1 for annihilations."""

    strips: NDArray[np.uint8]
    bars: NDArray[np.uint16]
    truth: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of strips, bars and truths."""
        arrays = (self.strips, self.bars, self.truth)
        return hashlib.sha256(b"".join(one.tobytes() for one in arrays)).hexdigest()

    def part(self, rows: NDArray[Any] | slice) -> Readouts:
        """Return some of the readouts."""
        return Readouts(self.strips[rows], self.bars[rows], self.truth[rows])

    def seen(self, names: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the inputs of a net, as the stages make them online."""
        hodoscope = np.empty((len(self), 2, self.bars.shape[1]), np.float32)
        time_since_first_hit(self.bars, hodoscope)
        z, phi, _ = unpacked(self.strips)
        found = {"z": z, "phi": phi, "hodoscope": hodoscope}
        return [found[name] for name in names]


def simulated(events: int, seed: int) -> Readouts:
    """Return simulated readouts."""
    blocks = [simulate(min(_BLOCK, events - k), seed, k) for k in range(0, events, _BLOCK)]
    names = ("strips", "bars", "truth")
    return Readouts(*(np.concatenate([one[name] for one in blocks]) for name in names))


def scores(net: Runner, names: Sequence[str], sample: Readouts) -> NDArray[np.float32]:
    """Return the (N,) probabilities that a net which sees these columns gives."""
    return np.concatenate(
        [net(*sample.part(slice(k, k + 1_024)).seen(names)) for k in range(0, len(sample), 1_024)]
    )
