"""The fork server as a process: ``python -m sluice.pipeline.system.fork_server MODULE…``."""

from __future__ import annotations

import sys
from socket import socket

from .client import LINE
from .server import load, serve, settle

if __name__ == "__main__":
    line = socket(fileno=LINE)
    settle(line)
    load(sys.argv[1:])
    serve(line)
