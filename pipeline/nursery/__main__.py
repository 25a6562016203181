"""A nursery in a process of its own: ``python -m sluice.pipeline.nursery MODULE…``."""

from __future__ import annotations

import sys
from socket import socket

from . import LINE
from .birth import load, serve, settle

if __name__ == "__main__":
    line = socket(fileno=LINE)
    settle(line)
    load(sys.argv[1:])
    serve(line)
