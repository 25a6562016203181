"""The fork server as a process: ``python -m sluice.pipeline.system.fork_server PARENT MODULE…``.

PARENT is the process id of the engine, or 0 if the thread that starts it may end before the engine.
"""

from __future__ import annotations

import sys
from socket import socket

from .client import CHANNEL_FD
from .server import daemonise, preload, serve

if __name__ == "__main__":
    channel = socket(fileno=CHANNEL_FD)
    daemonise(channel, int(sys.argv[1]))
    preload(sys.argv[2:])
    serve(channel)
