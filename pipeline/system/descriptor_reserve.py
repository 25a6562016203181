"""Reserve of descriptors: the end of a run needs some, whatever has taken all others."""

from __future__ import annotations

import os
from contextlib import suppress

#: For the files of recording, report and quarantine, and for what ends the processes of a run.
_DESCRIPTORS = 16


class DescriptorReserve:
    """Keeps descriptors open until they are released for others."""

    def __init__(self) -> None:
        self._held: list[int] = []
        with suppress(OSError):  # there are fewer: then these few are kept
            for _ in range(_DESCRIPTORS):
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def release(self) -> None:
        """Close the descriptors, so that this process can open as many files."""
        while self._held:
            os.close(self._held.pop())
