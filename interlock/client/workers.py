"""Workers: the incarnations that live, and telling them to drain. Leases are judged by the database's clock alone.

A drain is a mark on the row: executors dispatch no more to that worker at once, and it hears of it by its next renewal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.client.ids import Fragment, short
from interlock.client.patience import Patience
from interlock.client.polls import Pace
from interlock.client.store import SQL
from interlock.contract.errors import InterlockError
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx


class UnknownWorker(InterlockError):
    """No worker that lives has such an id, or is in such a pool or on such a host."""


class AmbiguousWorker(InterlockError):
    """Several workers have such an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One incarnation of a worker. It runs `running` executions of at most `capacity`.

    `containment` is how its guardian kills it: `cgroup`, `guardian` (by lineage), or `none` for one without a guardian.
    `lease_left` is in seconds by the database's clock; at 0 and below it is lost, and its executions move on.
    """

    id: UUID
    pool: str
    host: str
    pid: int
    containment: str
    capacity: int
    running: int
    lease_left: float
    draining: bool
    started_at: datetime

    @property
    def is_lost(self) -> bool:
        """Whether its lease has ended."""
        return self.lease_left <= 0


class Workers(Patience):
    """The client's view of `worker`."""

    async def list(self, *, pool: str | None = None, host: str | None = None) -> Sequence[WorkerState]:
        """Incarnations that have not ended, by pool and age; of one pool or host where it is given."""
        found = [WorkerState(**row) for row in await self._patiently(_workers)]
        return [each for each in found if pool in (None, each.pool) and host in (None, each.host)]

    async def select(
        self, texts: Collection[str] = (), *, pool: str | None = None, host: str | None = None
    ) -> Sequence[WorkerState]:
        """Those that `texts` name, by a whole id or any beginning or end that only one has; without texts, all.

        Raises UnknownId for what cannot be an id, AmbiguousWorker, and UnknownWorker when one or all are missing.
        """
        living = await self.list()
        found = [each for each in living if pool in (None, each.pool) and host in (None, each.host)]
        if texts:
            return list(dict.fromkeys(_named(text, found) for text in texts))
        if not found:
            raise UnknownWorker(f"no worker {_where(pool, host)}{_nearest(living, pool, host)}")
        return found

    async def drain(self, ids: Collection[UUID]) -> None:
        """Tell these to take nothing more, to finish what they run, and to end. Again: nothing."""
        await self._patiently(_drain, sorted(ids))

    async def drained(
        self, ids: Collection[UUID], on_progress: Callable[[int, int], None] | None = None
    ) -> frozenset[UUID]:
        """Wait until none of these lives; returns those that were lost instead of ending well.

        `on_progress` is told after every look how many workers are left, and how many executions they run.
        """
        pace, before = Pace(), (0, 0)
        while True:
            pace.begin()
            rows = await self._patiently(_drained, list(ids))
            left = [row for row in rows if row["lives"]]
            now = len(left), sum(row["running"] for row in left)
            if on_progress is not None:
                on_progress(*now)
            if not left:
                return frozenset(row["id"] for row in rows if row["lost"])
            await pace.rest(news=now != before)
            before = now


async def _workers(tx: Tx) -> list[Record]:
    return list(await tx.fetch(SQL["workers"]))


async def _drain(tx: Tx, ids: Sequence[UUID]) -> None:
    await tx.execute(SQL["drain_workers"], ids)


async def _drained(tx: Tx, ids: Sequence[UUID]) -> list[Record]:
    return list(await tx.fetch(SQL["drained_workers"], ids))


def _named(text: str, living: Sequence[WorkerState]) -> WorkerState:
    digits = Fragment.parse(text).digits
    found = [each for each in living if each.id.hex.startswith(digits) or each.id.hex.endswith(digits)]
    if not found:
        raise UnknownWorker(f"no living worker has an id that begins or ends with {text!r}; `interlock workers list`")
    if len(found) > 1:
        shown = ", ".join(str(each.id) for each in found[:5])
        raise AmbiguousWorker(f"{text!r} may be {shown}{' and more' if len(found) > 5 else ''}: give more of the id")  # noqa: PLR2004
    return found[0]


def _where(pool: str | None, host: str | None) -> str:
    places = [*([f"is in the pool {pool!r}"] if pool else []), *([f"is on the host {host!r}"] if host else [])]
    return " and ".join(places) or "lives"


def _nearest(living: Sequence[WorkerState], pool: str | None, host: str | None) -> str:
    hint = did_you_mean(pool, {each.pool for each in living}) if pool else ""
    return hint or (did_you_mean(host, {each.host for each in living}) if host else "")


def told(each: WorkerState) -> str:
    """Name one for people."""
    return f"{short(each.id)} ({each.pool}, {each.host}:{each.pid})"
