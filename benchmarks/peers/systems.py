"""Peers: the command of each, and its options for each size of message."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Events in a message.
SIZES = (1, 256, 2048)
#: Messages a second offered in the open loop: what the slowest peer can take, so that latencies of
#: all can be compared.
RATES = {1: 500, 256: 50, 2048: 20}
#: Messages in flight in the closed loop.
IN_FLIGHT = {1: (32, 256), 256: (8, 32), 2048: (4, 16)}
_PVA = (
    "-ic peer:images -oc peer:latents -pf {servers}/pvapy_app.py -pc Encoder "
    "-sqs 4096 -rqs 4096 -rp 0 -ll ERROR -dc"
)
_GRAPH = """
[graph]
name = "peers"
batch_events = 4096
window = 16

[source]
use = "live"
listen = "tcp://127.0.0.1:{port}"
columns = {{ {column} = "{form}" }}
{stages}
[sink]
use = "peers.reply"
path = "{reply}"
column = "{result}"
"""
_ENCODE = (
    '\n[[stage]]\nname = "encode"\nuse = "infer"\nmodel = "wafer-encoder-9b"\nbackend = "{}"\n'
)
_UNPACK = '\n[[stage]]\nuse = "wafer.unpack"\n\n[[stage]]\nuse = "wafer.normalise"\n'
_PACK = '\n[[stage]]\nuse = "wafer.pack"\nbits = 9\n'


@dataclass(frozen=True)
class Peer:
    """A way to serve the encoder.

    Attributes
    ----------
    about
        Description in the tables.
    package
        Package whose version is reported; empty for Sluice.
    link
        Name of the client module.
    command
        Command that starts the server; ``{folder}`` is its environment, ``{port}`` its port.
    together
        Messages that it may join, by events in a message.
    column, stages, result
        Column that is sent, stages of the graph, column that comes back; for Sluice only.
    """

    about: str
    package: str
    link: str
    command: str
    together: dict[int, int] = field(default_factory=lambda: {1: 32, 256: 4, 2048: 1})
    column: str = ""
    stages: str = ""
    result: str = ""

    def graph(self, port: int, reply: Path) -> str:
        """Return the graph file of a Sluice."""
        column, form = self.column.split("=")
        return _GRAPH.format(
            port=port, column=column, form=form, stages=self.stages, reply=reply, result=self.result
        )


def _sluice(about: str, column: str, stages: str, result: str, engine: str = "distributed") -> Peer:
    sluice = Path(sys.executable).with_name("sluice")
    command = f"{sluice} run {{graph}} --engine {engine} --http 127.0.0.1:0"
    return Peer(about, "", "sluice", command, column=column, stages=stages, result=result)


_IMAGE = "image=float32[8,8]"
PEERS = {
    "mosec": Peer(
        "HTTP, one worker",
        "mosec",
        "mosec",
        "{folder}/bin/python {servers}/mosec_app.py --address 127.0.0.1 --port {port} "
        "--log-level error",
    ),
    "litserve": Peer(
        "HTTP, one worker", "litserve", "litserve", "{folder}/bin/python {servers}/litserve_app.py"
    ),
    "pvapy": Peer(
        "PV Access, one pvapy-hpc-consumer with a processor",
        "pvapy",
        "pvapy",
        f"{{folder}}/bin/python {{folder}}/bin/pvapy-hpc-consumer {_PVA}",
    ),
    "triton": Peer(
        "HTTP with binary tensors, Python backend",
        "nvidia-pytriton",
        "triton",
        "{folder}/bin/python {servers}/triton_app.py",
        {1: 32, 256: 8, 2048: 1},
    ),
    "sluice": _sluice(
        "ZeroMQ, one worker, its own backend", _IMAGE, _ENCODE.format("layers"), "latent"
    ),
    "sluice-inline": _sluice(
        "the same in one process", _IMAGE, _ENCODE.format("layers"), "latent", "inline"
    ),
    "sluice-onnxruntime": _sluice(
        "the same with ONNX Runtime", _IMAGE, _ENCODE.format("onnxruntime:cpu"), "latent"
    ),
    "sluice-compress": _sluice(
        "from chip words to link bits: unpack, normalise, encode, pack",
        "words=uint32[12]",
        _UNPACK + _ENCODE.format("layers") + _PACK,
        "packed",
    ),
}
