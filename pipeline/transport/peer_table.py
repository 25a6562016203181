"""The peers of a ROUTER whose messages the compiled receive loop accepts, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sluice.pipeline.core.schema import Array

#: Longest identity of a ZeroMQ peer, bytes.
NAME_BYTES = 255


@dataclass(slots=True)
class PeerTable:
    """Peers, one a row.

    Attributes
    ----------
    max_peers
        Number of rows.
    names
        uint8 (max_peers, 255): identities.
    sizes
        int64 (max_peers,): lengths of the identities, bytes; 0 where a row is free.
    expected
        uint64 (max_peers,): number of the next event of each peer.
    """

    max_peers: int
    names: Array = field(init=False)
    sizes: Array = field(init=False)
    expected: Array = field(init=False)

    def __post_init__(self) -> None:
        self.names = np.zeros((self.max_peers, NAME_BYTES), np.uint8)
        self.sizes = np.zeros(self.max_peers, np.int64)
        self.expected = np.zeros(self.max_peers, np.uint64)

    def add(self, name: bytes, event: int) -> int:
        """Add a peer whose next event has the number `event`; return its row.

        The caller makes sure that a row is free.
        """
        row = int(np.flatnonzero(self.sizes == 0)[0])
        self.names[row, : len(name)] = np.frombuffer(name, np.uint8)
        self.sizes[row], self.expected[row] = len(name), event
        return row

    def drop(self, row: int) -> None:
        """Remove a peer; its row becomes free."""
        self.sizes[row] = 0
