"""The fork server as a process: ``python -m sluice.pipeline.system.fork_server MODULE…``."""

from __future__ import annotations

import sys
from socket import socket

from .client import CHANNEL_FD
from .server import daemonise, preload, serve

if __name__ == "__main__":
    channel = socket(fileno=CHANNEL_FD)
    daemonise(channel)
    preload(sys.argv[1:])
    serve(channel)
