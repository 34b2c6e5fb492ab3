"""Waiting by looking again: short pauses while something happens, longer ones while nothing does."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from interlock.contract.errors import InterlockError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SHORTEST: Final = 0.02
LONGEST: Final = 1.0
SHARE: Final = 5
"""A poll pauses at least this many times as long as it took: many waiting clients stay a small part of the load."""


class Resumed(InterlockError):
    """What was to drain is paused no more."""


class Pace:
    """One loop's pace. `begin` before a look, `rest` behind it."""

    def __init__(self) -> None:
        self._pause = SHORTEST
        self._began = monotonic()

    def begin(self) -> None:
        """Note that a look begins."""
        self._began = monotonic()

    async def rest(self, *, news: bool) -> None:
        """Pause until the next look is due; `news` tells whether this one saw something happen."""
        took = monotonic() - self._began
        self._pause = min(LONGEST, max(SHORTEST if news else self._pause * 1.5, took * SHARE))
        await asyncio.sleep(self._pause)


async def until_empty(
    look: Callable[[], Awaitable[tuple[bool, int]]], name: str, on_progress: Callable[[int], None] | None
) -> None:
    """Wait until `look` (is it paused, how many are left) finds nothing left. Raises Resumed.

    `on_progress` is told how many are left after every look.
    """
    pace, before = Pace(), None
    while True:
        pace.begin()
        paused, left = await look()
        if on_progress is not None:
            on_progress(left)
        if not left:
            return
        if not paused:
            raise Resumed(f"{name} was resumed before it was empty; {left} left")
        await pace.rest(news=left != before)
        before = left
