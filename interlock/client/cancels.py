"""Cancelling by id, and by what executions have in common: looked at before, in chunks, each of which is committed.

Whoever commits first wins: work that finished before its cancel stays as it ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from interlock.acceptance.store import bury, force
from interlock.client import store
from interlock.client.patience import Patience
from interlock.client.records import Cancelled
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from asyncpg import Pool

    from interlock.adapters.postgres import Tx

CANCELLABLE: Final = (Status.REQUESTED, Status.SCHEDULED, Status.RUNNING)
SHOWN: Final = 5
CHUNK: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Executions of these statuses that pass all that is given; `older` is in seconds since they were accepted."""

    statuses: tuple[Status, ...] = CANCELLABLE
    action: str | None = None
    tag: str | None = None
    pool: str | None = None
    older: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many executions of one action stand at one status."""

    action: str
    status: Status
    executions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a selection means now. `until` bounds it: what is accepted later is not part of it."""

    executions: int
    shares: tuple[Share, ...]
    first: tuple[UUID, ...]
    until: datetime


class Cancels(Patience):
    """The client's cancels."""

    def __init__(self, pool: Pool[Any], actor: str) -> None:
        super().__init__(pool)
        self._actor = actor

    async def cancel(
        self, ids: Collection[UUID], reason: str = "cancelled on request", *, forced: bool = False
    ) -> Sequence[Cancelled]:
        """Cancel: what waits ends at once, what runs is told to stop, what has ended stays as it is.

        `forced`: what runs gets no grace, also where it was told before.
        """
        wanted = sorted(set(ids))
        outcomes: dict[UUID, Cancelled] = {}
        for start in range(0, len(wanted), CHUNK):
            outcomes |= await self._patiently(self._cancel, wanted[start : start + CHUNK], reason, forced=forced)
        return [outcomes[identity] for identity in dict.fromkeys(ids)]

    async def _cancel(self, tx: Tx, ids: Sequence[UUID], reason: str, *, forced: bool) -> dict[UUID, Cancelled]:
        await bury(tx, dict.fromkeys(ids, reason), self._actor)
        moved = (await store.admit(tx, self._actor, decided=ids, reason=reason)).decided
        hurried = await force(tx, ids, self._actor) if forced else frozenset()
        standing = await store.standing(tx, ids)
        return {i: Cancelled(id=i, status=standing.get(i), moved=i in moved, forced=i in hurried) for i in ids}

    async def preview(self, selection: Selection) -> Preview:
        """Tell what `cancel_all` of this selection would cancel now: how many, and the first ids. Writes nothing."""
        return await self._patiently(_preview, selection)

    async def cancel_all(
        self,
        selection: Selection,
        until: datetime,
        reason: str = "cancelled on request",
        on_progress: Callable[[int], None] | None = None,
        *,
        forced: bool = False,
    ) -> int:
        """Cancel what the selection meets, as it was previewed; returns how many this moved, or took the grace from.

        In chunks, each committed by itself, so an interrupted call has done its part and is simply made again.
        `on_progress` is told how many it is after each. `forced` as for `cancel`.
        """
        cursor, moved = UUID(int=0), 0
        while True:
            last, more = await self._patiently(self._cancel_chunk, selection, until, cursor, reason, forced=forced)
            moved += more
            if on_progress is not None:
                on_progress(moved)
            if last is None:
                return moved
            cursor = last

    async def _cancel_chunk(
        self, tx: Tx, selection: Selection, until: datetime, cursor: UUID, reason: str, *, forced: bool
    ) -> tuple[UUID | None, int]:
        found = await selected(tx, selection, until, cursor, CHUNK)
        if not found:
            return None, 0
        # What has gone to another status since it was found is not what was asked for.
        moved = (await store.admit(tx, self._actor, decided=found, sources=selection.statuses, reason=reason)).decided
        if forced:
            moved |= await force(tx, found if Status.CANCELLING in selection.statuses else sorted(moved), self._actor)
        return (found[-1] if len(found) == CHUNK else None), len(moved)


async def selected(tx: Tx, selection: Selection, until: datetime, after: UUID, most: int) -> list[UUID]:
    """The first of a selection behind the id `after`, in the order of ids."""
    return [row["id"] for row in await tx.fetch(store.SQL["selected"], *_filters(selection), until, after, most)]


async def _preview(tx: Tx, selection: Selection) -> Preview:
    until: datetime = await tx.fetchval(store.SQL["moment"], selection.older)
    rows = await tx.fetch(store.SQL["shares"], *_filters(selection), until)
    shares = tuple(
        Share(action=row["action"], status=Status(row["status"]), executions=row["executions"]) for row in rows
    )
    first = await selected(tx, selection, until, UUID(int=0), SHOWN) if shares else []
    return Preview(
        executions=sum(share.executions for share in shares),
        shares=shares,
        first=tuple(first),
        until=until,
    )


def _filters(selection: Selection) -> tuple[list[str], str | None, str | None, str | None]:
    return [str(status) for status in selection.statuses], selection.action, selection.tag, selection.pool
