"""The fork server as a process: ``python -m sluice.pipeline.system.fork_server MODULE…``."""

from __future__ import annotations

import sys
from socket import socket

from .client import LINE
from .server import daemonise, preload, serve

if __name__ == "__main__":
    line = socket(fileno=LINE)
    daemonise(line)
    preload(sys.argv[1:])
    serve(line)
