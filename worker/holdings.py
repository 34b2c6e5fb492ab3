"""What this incarnation holds: claimed and not yet finished. Decides nothing; the table says what is ours."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.runners.grace import Grace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID


@dataclass(slots=True, kw_only=True)
class Holding:
    """One claimed attempt. `ending` says why it was told to stop: cancelled, handed_back or gone.

    `grace` is what it gets then. `task` is set by the task itself, at its first step: one that is cancelled before
    could not hand over its end.
    """

    id: UUID
    attempt: int
    started_at: datetime
    grace: Grace = field(default_factory=Grace)
    task: asyncio.Task[None] | None = None
    ending: str | None = None


class Holdings:
    """Up to `capacity` holdings, and whether a claim is under way."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._idle = asyncio.Event()
        self._idle.set()
        self._held: dict[UUID, Holding] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def claiming(self) -> bool:
        """Whether a claim is under way whose result is not entered yet."""
        return not self._idle.is_set()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """A claim is under way, from before its statement until its result is entered."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    async def claimed(self) -> None:
        """Return when no claim is under way."""
        while self.claiming:  # another may have begun between the end of one and our turn
            await self._idle.wait()

    @property
    def free(self) -> int:
        """How many more may be claimed."""
        return self.capacity - len(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, identity: UUID) -> bool:
        return identity in self._held

    def pairs(self) -> list[tuple[UUID, int]]:
        """(id, attempt) of everything held: what the renewal tells."""
        return [(holding.id, holding.attempt) for holding in self._held.values()]

    def add(self, holding: Holding) -> None:
        """Enter what was claimed."""
        self._held[holding.id] = holding
        self._empty.clear()
        if self.free <= 0:
            self._room.clear()

    def remove(self, identity: UUID, attempt: int) -> None:
        """Forget what was finished; a later attempt of the same execution, claimed meanwhile, stays."""
        if (holding := self._held.get(identity)) is not None and holding.attempt == attempt:
            del self._held[identity]
        if self.free > 0:
            self._room.set()
        if not self._held:
            self._empty.set()

    def end(self, identity: UUID, reason: str, attempt: int | None = None) -> None:
        """Tell one to stop, once: a second word must not cut short the grace that the first one granted."""
        holding = self._held.get(identity)
        if holding is None or holding.ending is not None or attempt not in (None, holding.attempt):
            return
        holding.ending = reason
        if holding.task is not None:
            holding.task.cancel()

    def force(self, identity: UUID, attempt: int | None = None) -> None:
        """Let one that is cancelled stop now: what grace it has, or had, is cut off."""
        holding = self._held.get(identity)
        if holding is not None and attempt in (None, holding.attempt):
            holding.grace.cut_off()
            self.end(identity, "cancelled", attempt)

    def end_all(self, reason: str) -> None:
        """Tell all to stop."""
        for identity in list(self._held):
            self.end(identity, reason)

    async def room(self) -> None:
        """Return when something may be claimed."""
        await self._room.wait()

    async def empty(self) -> None:
        """Return when nothing is held."""
        await self._empty.wait()
