"""mosec: one worker behind its HTTP server, batching what waits."""

from __future__ import annotations

import os

from encoder import encode_all, open_encoder
from mosec import Server, Worker


class Encoder(Worker):
    """Bytes in, bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = open_encoder()

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def serialize(self, data: bytes) -> bytes:
        """Give the body as it is."""
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        """Encode what came together."""
        return encode_all(self.encode, data)


class Single(Encoder):
    """The same without batching."""

    def forward(self, data: bytes) -> bytes:  # type: ignore[override]
        """Encode one message."""
        return encode_all(self.encode, [data])[0]


if __name__ == "__main__":
    together = int(os.environ["PEER_TOGETHER"])
    server = Server()
    if together > 1:
        server.append_worker(Encoder, num=1, max_batch_size=together, max_wait_time=1)
    else:
        server.append_worker(Single, num=1)
    server.run()
