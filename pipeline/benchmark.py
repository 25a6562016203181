"""Throughput of the engines as shares of the bare chain: kernels and models in a tight loop."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from sluice.kernels import wafer

from .backends import DEFAULT, open_session
from .batch import Array
from .config import GraphConfig, Part, load_graph
from .daemon import Wishes, check_report, execute
from .manifest import find_model
from .recording import RecordingReader, RecordingWriter

_BITS = 9
Measure = Callable[[], float]
