"""Events that every client sends, and the answers expected."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

#: One answer in so many is compared with the encoder's own.
LOOK_AT = 16
_TOLERANCE = 1e-3


class Events:
    """What is sent, and what must come back."""

    def __init__(self, size: int) -> None:
        folder = os.environ["PEER_EVENTS"]
        self.size = size
        self.images = np.load(f"{folder}/images.npy")
        self.latents = np.load(f"{folder}/latents.npy")
        self.messages = len(self.images) // size
        self.bodies = [self.rows(n, self.images).data.cast("B") for n in range(self.messages)]
        self.wrong = 0

    def rows(self, number: int, of: Any) -> Any:
        """Return the rows of message `number`."""
        first = number % self.messages * self.size
        return of[first : first + self.size]

    def look_at(self, number: int, latents: bytes) -> None:
        """Compare an answer with the expected one."""
        wanted = self.rows(number, self.latents)
        got = np.frombuffer(latents, np.float32)
        if got.size != wanted.size or abs(got.reshape(wanted.shape) - wanted).max() > _TOLERANCE:
            self.wrong += 1
