"""The worker's word to its guardian: when the last good lease renewal was sent. Standard library only."""

from __future__ import annotations

import os
import struct
import time
from typing import Final

BEAT: Final = struct.Struct("=d")
"""One beat: 8 bytes, seconds on CLOCK_BOOTTIME, which both processes share and which a suspended machine moves on."""


class Heartbeat:
    """The writing end of the pipe that the guardian handed over; the file descriptor is not passed on to children."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)  # noqa: FBT003 - its signature
        self._fd = fd

    def beat(self, sent_at: float) -> bool:
        """Report a good renewal by the `time.monotonic()` at which it was *sent*. Never blocks.

        Returns False when the guardian does not read (stopped) or has gone; its death ends this process anyway.
        """
        age = time.monotonic() - sent_at
        try:
            os.write(self._fd, BEAT.pack(time.clock_gettime(time.CLOCK_BOOTTIME) - age))
        except (BlockingIOError, BrokenPipeError):
            return False
        return True
