"""The worker's word to its guardian: when the last good lease renewal was sent. Standard library only."""

from __future__ import annotations

import os
import struct
import time
from typing import Final

BEAT: Final = struct.Struct("=dd")
"""One beat, 16 bytes: when the renewal was sent, and how long after that the guardian is to kill; in seconds.

On CLOCK_BOOTTIME, which both processes share and which a suspended machine moves on.
"""


class Heartbeat:
    """The writing end of the pipe that the guardian handed over; the file descriptor is not passed on to children.

    The guardian is to kill when the newest good renewal was sent `kill_after` seconds ago: it reads no settings.
    """

    def __init__(self, fd: int, kill_after: float) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)  # noqa: FBT003 - its signature
        self._fd = fd
        self._kill_after = kill_after

    def beat(self, sent_at: float) -> bool:
        """Report a good renewal by the `time.monotonic()` at which it was *sent*. Never blocks.

        Returns False when the guardian does not read (stopped) or has gone; its death ends this process anyway.
        """
        age = time.monotonic() - sent_at
        try:
            os.write(self._fd, BEAT.pack(time.clock_gettime(time.CLOCK_BOOTTIME) - age, self._kill_after))
        except (BlockingIOError, BrokenPipeError):
            return False
        return True
