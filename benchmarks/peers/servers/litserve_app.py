"""LitServe: one worker behind uvicorn, batching what waits."""

import os
from typing import Annotated, Any

import litserve as ls
from encoder import encode_all, open_encoder
from fastapi import Body, Response


class Encoder(ls.LitAPI):
    """Bytes in, bytes out."""

    def setup(self, device: str) -> None:
        """Load the encoder."""
        self.encode = open_encoder()

    def decode_request(self, request: Annotated[bytes, Body()]) -> Any:
        """Take the body as it is."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Leave messages apart: they are joined in `predict`."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Encode what came together, or one message."""
        return encode_all(self.encode, x if isinstance(x, list) else [x])

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """One answer for each message."""
        return output

    def encode_response(self, output: Any) -> Response:
        """Give the body as it is."""
        body = output[0] if isinstance(output, list) else output
        return Response(content=body, media_type="application/octet-stream")


if __name__ == "__main__":
    together = int(os.environ["PEER_TOGETHER"])
    api = Encoder(max_batch_size=together, batch_timeout=0.001 if together > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=60)
    server.run(
        host="127.0.0.1", port=int(os.environ["PEER_PORT"]), num_api_servers=1,
        generate_client_file=False, log_level="error", access_log=False,
        timeout_keep_alive=60,
    )  # fmt: skip
