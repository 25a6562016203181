"""Measure Sluice and systems that do the same job: same encoder, same events, same cores.

One system at a time, transport included: the client sends images and takes latents back. Closed
loop: a fixed number of messages in flight, as fast as answers come. Open loop: messages at a fixed
rate, latency from the moment a message was due. ``install.sh`` makes the peers' environments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from measure import Folders, measure
from systems import PEERS, SIZES, Peer
from table import markdown

from sluice.benchmarks.conditions import benchmark_conditions
from sluice.exporters.families.wafers.simulation.wafers import simulate
from sluice.kernels import wafer

_EVENTS = 16_384
_CORES = 2


def make_events(folder: Path, model: Path) -> None:
    """Write chip words, images and the encoder's latents of simulated wafers."""
    words = simulate(_EVENTS, 1)["words"].view(np.uint32)
    charge = np.empty((_EVENTS, wafer.CELLS), np.float32)
    image = np.empty((_EVENTS, *wafer.GRID), np.float32)
    wafer.unpack(words, charge)
    wafer.normalise(
        charge, image, np.empty(_EVENTS, np.float32), np.empty(_EVENTS, np.uint8)
    )  # fmt: skip
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (latents,) = session.run(None, {session.get_inputs()[0].name: image})
    for name, values in {
        "words": words,
        "image": image,
        "images": image,
        "latents": latents,
    }.items():
        np.save(folder / f"{name}.npy", values)


def versions(name: str, folder: Path) -> dict[str, str]:
    """Return the versions of all packages in a peer's environment."""
    python = sys.executable if name.startswith("sluice") else folder / "bin" / "python"
    code = (
        "from importlib.metadata import distributions as all\n"
        "print(*(f'{d.name}=={d.version}' for d in all()))"
    )
    listed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(item.split("==") for item in sorted(listed.stdout.split()))


def register_reply_sink(folder: Path) -> None:
    """Make the sink of ``sluice_reply.py`` known, as an installation would."""
    info = folder / "sluice_peers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sluice-peers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sluice.sinks]\npeers.reply = sluice_reply:ReplySink\n")


def run_peer(
    name: str, environments: Path, work: Path, model: Path, warm_s: float, seconds: float
) -> dict[str, Any]:
    """Return the results of one peer; ``reason`` where it could not be measured."""
    peer: Peer = PEERS[name]
    folder = environments / name
    entry: dict[str, Any] = {"about": peer.about, "version": None, "results": [], "reason": None}
    try:
        packages = versions(name, folder)
        entry |= {"packages": packages, "version": packages[peer.package or "sluice-daq"]}
        for size in SIZES:
            folders = Folders(folder, work / f"{name}-{size}", model)
            for result in measure(name, size, folders, warm_s, seconds):
                print(f"  {name}: {json.dumps(result)}", file=sys.stderr, flush=True)
                entry["results"].append(result)
    except (OSError, KeyError, RuntimeError, subprocess.SubprocessError) as error:
        entry["reason"] = f"{type(error).__name__}: {error}"
        print(f"  {name}: {entry['reason']}", file=sys.stderr, flush=True)
    return entry


def main() -> None:
    """Measure the peers that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peers", nargs="*", help=f"of {', '.join(PEERS)}; all unless named")
    parser.add_argument("--environments", type=Path, default=Path("build/peers"))
    parser.add_argument("--json", type=Path, default=Path("out/peers.json"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before each measurement")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers end too
    unknown = set(options.peers) - set(PEERS)
    if unknown:
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    cores = sorted(os.sched_getaffinity(0))[:_CORES]
    os.sched_setaffinity(0, cores)
    model = Path(str(files("sluice.models"))) / "wafer-encoder-9b" / "1" / "model.onnx"
    machine = {"python": platform.python_version(), **benchmark_conditions()}
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    work = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        make_events(work, model)
        register_reply_sink(work)
        measured = {
            name: run_peer(
                name, options.environments.resolve(), work, model, options.warm, options.seconds
            )
            for name in options.peers or PEERS
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report = {"began": began, "machine": machine, "seconds": options.seconds, "peers": measured}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


if __name__ == "__main__":
    main()
