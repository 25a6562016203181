"""Triton: its own server, the encoder in its Python backend (what nvidia-pytriton brings)."""

from __future__ import annotations

import os
import socket

import numpy as np
from encoder import open_encoder
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


if __name__ == "__main__":
    encode = open_encoder()

    @batch
    def infer(image: np.ndarray) -> dict[str, np.ndarray]:
        """Encode what came together."""
        return {"latent": encode(image)}

    port, together = int(os.environ["PEER_PORT"]), int(os.environ["PEER_TOGETHER"])
    size = int(os.environ["PEER_SIZE"])
    config = TritonConfig(
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        http_port=port,
        grpc_port=_free_port(),
        metrics_port=_free_port(),
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=100 if together > 1 else 0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="encoder",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.float32, shape=(8, 8))],
            outputs=[Tensor(name="latent", dtype=np.float32, shape=(16,))],
            config=ModelConfig(max_batch_size=max(size * together, 2), batcher=batcher),
        )
        triton.serve()
