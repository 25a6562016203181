"""Recordings: Arrow IPC streams that any Arrow reader opens, also after a crash.

The stream's schema metadata holds the begin-of-run record; each record batch carries its sequence
number, a checksum, and in a run the commit record of what it settles; the last, empty batch carries
the end-of-run record. A file without it was cut short and is read up to its last whole batch. A
recording may be in parts, each a file that can be read by itself.
"""

from .flusher import Flusher, flush_folder
from .lock import await_writer
from .metadata import Info, Part
from .part_files import await_last, find_files, list_parts, named_part, part_path, require_whole
from .reader import Recording, RecordingReader
from .rotation import RotatingWriter, Rotation
from .tail import Tail, find_tail
from .writer import SUFFIX, Compression, RecordingWriter

__all__ = [
    "SUFFIX",
    "Compression",
    "Flusher",
    "Info",
    "Part",
    "Recording",
    "RecordingReader",
    "RecordingWriter",
    "RotatingWriter",
    "Rotation",
    "Tail",
    "await_last",
    "await_writer",
    "find_files",
    "find_tail",
    "flush_folder",
    "list_parts",
    "named_part",
    "part_path",
    "require_whole",
]
