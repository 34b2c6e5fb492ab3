"""The log of one attempt: makes lines storable, numbers them and stops at the limits, with one mark that says so.

Any thread may write; entries reach `emit` on the event loop. It keeps nothing and knows no database.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from worker.outcome import storable

if TYPE_CHECKING:
    from collections.abc import Callable

Stream: TypeAlias = Literal["stdout", "stderr", "log"]

LINES: Final = 10_000
BYTES: Final = 1024 * 1024
LINE_BYTES: Final = 8 * 1024
"""Limits of one attempt's log, and of one line in UTF-8."""


class LogEntry(NamedTuple):
    """One line as stored: its number from 1, where it came from, its text without a line end, and when."""

    number: int
    stream: Stream
    line: str
    at: datetime


class LogSink:
    """Takes the lines of one attempt. Made on the event loop; `emit` is called there, with numbers that may arrive
    out of order when several threads write at once.
    """  # noqa: D205 - one sentence, two lines

    def __init__(self, emit: Callable[[LogEntry], None], *, lines: int = LINES, size: int = BYTES) -> None:
        self._emit = emit
        self._lines, self._size = lines, size
        self._number = 0
        self._bytes = 0
        self._full = False
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def full(self) -> bool:
        """Whether the limit was met: nothing written from now on is kept."""
        return self._full

    def write(self, stream: Stream, line: str) -> None:
        """Add a line (several, where the text has line ends). Text that cannot be stored is shown by substitutes."""
        if self._full:
            return
        for part in line.removesuffix("\n").split("\n"):
            entry = self._admit(stream, _fit(storable(part.removesuffix("\r"))))
            if entry is None:
                return
            if threading.get_ident() == self._thread:
                self._emit(entry)
            else:
                self._loop.call_soon_threadsafe(self._emit, entry)

    def _admit(self, stream: Stream, line: str) -> LogEntry | None:
        """Give a line its number, or make the one mark in the place of the first line that is too much."""
        with self._lock:
            if self._full:
                return None
            size = len(line) if line.isascii() else len(line.encode())
            if self._number >= self._lines or self._bytes + size > self._size:
                self._full = True
                stream, line = "log", f"log truncated: more than {self._lines:,} lines or {self._size:,} bytes"
            self._number += 1
            self._bytes += size
            return LogEntry(self._number, stream, line, datetime.now(UTC))


def _fit(line: str) -> str:
    """At most 8 KiB of the line, cut between characters, with an ellipsis where it was cut."""
    if len(line) * 4 <= LINE_BYTES or (line.isascii() and len(line) <= LINE_BYTES):
        return line
    data = line.encode()
    if len(data) <= LINE_BYTES:
        return line
    return data[: LINE_BYTES - 3].decode(errors="ignore") + "…"
