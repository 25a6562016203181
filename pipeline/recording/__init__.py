"""Recordings: Arrow IPC streams that any Arrow reader opens, also after a crash.

The stream's schema metadata holds the begin-of-run record; each record batch carries its sequence
number, a checksum, and in a run the commit record of what it settles; the last, empty batch carries
the end-of-run record. A file without it was cut short and is read up to its last whole batch.
"""

from .lock import await_writer
from .marks import Info
from .reading import RecordingReader
from .tail import Tail, find_tail
from .writing import SUFFIX, Compression, RecordingWriter

__all__ = [
    "SUFFIX",
    "Compression",
    "Info",
    "RecordingReader",
    "RecordingWriter",
    "Tail",
    "await_writer",
    "find_tail",
]
