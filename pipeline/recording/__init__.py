"""Recordings: Arrow IPC streams that any Arrow reader opens, also after a crash.

The stream's schema metadata holds the begin-of-run record; each record batch carries its sequence
number, a checksum, and in a run the commit record of what it settles; the last, empty batch carries
the end-of-run record. A file without it was cut short and is read up to its last whole batch. A
recording may be in parts, each a file that can be read by itself.
"""

from .flusher import Flusher, flush_folder
from .lock import await_writer
from .metadata import FilePart, Info
from .part_files import (
    find_files,
    find_parts,
    parse_part_name,
    part_path,
    require_complete,
    wait_for_writer,
)
from .reader import Recording, RecordingReader
from .rotation import RotatingWriter, Rotation
from .tail import ResumeOffset, find_resume_offset
from .writer import SUFFIX, Compression, RecordingWriter

__all__ = [
    "SUFFIX",
    "Compression",
    "FilePart",
    "Flusher",
    "Info",
    "Recording",
    "RecordingReader",
    "RecordingWriter",
    "ResumeOffset",
    "RotatingWriter",
    "Rotation",
    "await_writer",
    "find_files",
    "find_parts",
    "find_resume_offset",
    "flush_folder",
    "parse_part_name",
    "part_path",
    "require_complete",
    "wait_for_writer",
]
