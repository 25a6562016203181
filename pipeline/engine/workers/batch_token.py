"""Tokens of batches: which assignment a result answers, proven with a secret of the run.

Ingest sends a token with each batch and the sink computes it again from the result. A result that
was made up, altered, or belongs to another run has no valid token.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from typing import NamedTuple

#: Length of the secret, bytes.
SECRET_BYTES = 16
_LAYOUT = struct.Struct("<QIIIHB")
_TOKEN_BYTES = 8


class Assignment(NamedTuple):
    """A batch as it was sent to one process.

    Attributes
    ----------
    seq, events
        Number of the batch and of its events.
    session
        Session number of the worker to which it was sent.
    epoch, segment, rung
        Epoch of the models, segment of the chain and rung of the ladder to process it with.
    """

    seq: int
    events: int
    session: int
    epoch: int = 0
    segment: int = 0
    rung: int = 0


class TokenKey:
    """Computes the tokens of one run.

    Parameters
    ----------
    secret
        Secret of the run, `SECRET_BYTES` bytes, known to ingest and the sink only.

    Examples
    --------
    >>> key = TokenKey(bytes(16))
    >>> key.token(Assignment(seq=0, events=64, session=7)) == key.token(Assignment(0, 64, 8))
    False
    """

    def __init__(self, secret: bytes) -> None:
        self._keyed = hashlib.blake2b(key=secret, digest_size=_TOKEN_BYTES)

    def token(self, assignment: Assignment) -> int:
        """Return the 64-bit token of an assignment: keyed BLAKE2b of its fields."""
        digest = self._keyed.copy()
        digest.update(_LAYOUT.pack(*assignment))
        return int.from_bytes(digest.digest(), "little")


def new_secret() -> bytes:
    """Return a random secret for one run."""
    return secrets.token_bytes(SECRET_BYTES)
