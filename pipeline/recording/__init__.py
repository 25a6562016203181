"""Recordings: Arrow IPC streams that any Arrow reader opens, also after a crash.

The schema metadata of the stream holds the begin-of-run record. Each record batch has a sequence
number, a checksum, and, if a run wrote it, a commit record. The last, empty batch has the
end-of-run record; a file without one was cut short and is read up to its last whole batch. A
rotated recording consists of several files, each of which can be read alone.
"""

from .flusher import Flusher, flush_folder
from .lock import await_writer
from .metadata import FilePart, Info
from .part_files import (
    find_files,
    find_parts,
    is_recording,
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
    "is_recording",
    "parse_part_name",
    "part_path",
    "require_complete",
    "wait_for_writer",
]
