"""The client: one pool, one transaction per call, and patience with what passes. Decides nothing, publishes nothing.

Law 1. The row is the truth; a message is a hint. What a call returned is committed; what wrote messages leaves them to
the executors' next sweep.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from uuid_utils.compat import uuid7

from interlock.acceptance.catalog import Catalog
from interlock.acceptance.store import accept
from interlock.adapters import migrations
from interlock.adapters.postgres import mapped_errors, open_pool, transaction
from interlock.client import registry, store
from interlock.client.doctor import examine
from interlock.client.ids import AmbiguousId, Fragment, UnknownId
from interlock.client.records import Cancelled, Page
from interlock.contract.errors import Transient
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Pool

    from interlock.acceptance.store import Answer
    from interlock.adapters.postgres import Tx
    from interlock.client.doctor import Examination
    from interlock.client.records import Applied, Attempt, Execution, LogLine, Move, Registered
    from interlock.contract.definitions import Action

P = ParamSpec("P")
T = TypeVar("T")
CHUNK: Final = 500
CONNECTIONS: Final = 4
CLOSE_SECONDS: Final = 2.0
PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between the tries of one call while the database says that it will pass."""
SHORTEST_POLL: Final = 0.02
LONGEST_POLL: Final = 1.0
POLL_SHARE: Final = 5
"""A poll pauses at least this many times as long as it took: many waiting clients stay a small part of the load."""
MOST_CANDIDATES: Final = 6


class Client:
    """Everything a user may ask of Interlock. Every call may raise Transient when the database stays away."""

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self._catalog = Catalog()
        self._actor = f"/client/{uuid7()}"

    @classmethod
    @asynccontextmanager
    async def connect(cls, database_url: str, *, statement_seconds: float = 30.0) -> AsyncIterator[Client]:
        """Connect, and look whether this version may work on the schema.

        Raises Unavailable when the server cannot be reached and Misconfigured when the schema does not fit.
        """
        pool = await open_pool(
            database_url,
            application="interlock-client",
            size=CONNECTIONS,
            hot=False,
            statement_seconds=statement_seconds,
        )
        try:
            with mapped_errors():
                async with pool.acquire() as connection:
                    await migrations.verify(connection)
            yield cls(pool)
        finally:
            # A server that no longer answers would hang the terminal; closing that is given up cuts the connections.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await pool.close()

    async def submit(self, requests: Sequence[Mapping[str, Any]]) -> Sequence[Answer]:
        """Accept requests (the data of `execution.requested`), in their order; what has no id gets one.

        Bad input is answered, never raised: `error` and `refused` say why. A repeat, also of this very call, is
        answered by the execution that stands (`existing`). One transaction per 500: if it cannot be committed, those
        before it are.
        """
        complete = [{**request, "id": str(request.get("id") or uuid7())} for request in requests]
        answers: list[Answer] = []
        for start in range(0, len(complete), CHUNK):
            answers += await self._patiently(self._accept, complete[start : start + CHUNK])
        return answers

    async def _accept(self, tx: Tx, requests: Sequence[dict[str, Any]]) -> Sequence[Answer]:
        acceptance = await accept(tx, requests, catalog=self._catalog, actor=self._actor, now=datetime.now(UTC))
        await store.give_up_claim(tx, acceptance.messages)
        return acceptance.answers

    async def cancel(self, ids: Collection[UUID], reason: str = "cancelled on request") -> Sequence[Cancelled]:
        """Cancel: what waits ends at once, what runs is told to stop, what has ended stays as it is."""
        wanted = sorted(set(ids))
        outcomes: dict[UUID, Cancelled] = {}
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            outcomes |= await self._patiently(self._cancel, chunk, reason)
        return [outcomes[identity] for identity in dict.fromkeys(ids)]

    async def _cancel(self, tx: Tx, ids: Sequence[UUID], reason: str) -> dict[UUID, Cancelled]:
        await store.bury(tx, ids, reason, self._actor)
        moved = await store.admit(tx, cancelled=ids, reason=reason, keys=(), actor=self._actor)
        standing = await store.standing(tx, ids)
        return {i: Cancelled(id=i, status=standing.get(i), moved=i in moved) for i in ids}

    async def find(self, text: str) -> UUID:
        """The one execution whose id is `text`, or begins or ends so. Raises UnknownId or AmbiguousId.

        A whole id is not looked up. The end of an id is looked for among all of them.
        """
        fragment = Fragment.parse(text)
        if fragment.whole is not None:
            return fragment.whole
        found = await self._patiently(store.find, fragment, MOST_CANDIDATES)
        if not found:
            raise UnknownId(f"no execution has an id that begins or ends with {text!r}; `interlock list` shows them")
        if len(found) > 1:
            shown = ", ".join(map(str, found[: MOST_CANDIDATES - 1]))
            more = " and more" if len(found) == MOST_CANDIDATES else ""
            raise AmbiguousId(f"{text!r} may be {shown}{more}: give more of the id", found)
        return found[0]

    async def get(self, identity: UUID) -> Execution:
        """One execution, whole. Raises UnknownId."""
        found = await self.get_many([identity])
        if identity not in found:
            raise UnknownId(f"no execution {identity}; `interlock list` shows the newest")
        return found[identity]

    async def get_many(self, ids: Collection[UUID]) -> dict[UUID, Execution]:
        """Those of `ids` that exist, whole, in their order."""
        wanted = list(dict.fromkeys(ids))
        found: dict[UUID, Execution] = {}
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            found |= await self._patiently(store.get, chunk)
        return {identity: found[identity] for identity in wanted if identity in found}

    async def list(
        self,
        *,
        status: Collection[Status] = (),
        action: str | None = None,
        tag: str | None = None,
        limit: int = 50,
        cursor: UUID | None = None,
    ) -> Page:
        """Executions that pass every filter, newest first; `cursor` is that of the page before."""
        found = await self._patiently(
            store.listed, before=cursor, statuses=status, action=action, tag=tag, limit=limit + 1
        )
        items = tuple(found[:limit])
        return Page(items=items, cursor=items[-1].id if len(found) > limit else None)

    async def transitions(self, identity: UUID, after: int = 0) -> Sequence[Move]:
        """The moves of one execution behind the one numbered `after`."""
        return await self._patiently(store.transitions, identity, after)

    async def attempts(self, identity: UUID) -> Sequence[Attempt]:
        """The attempts of one execution that ended."""
        return await self._patiently(store.attempts, identity)

    async def logs(self, identity: UUID, after: tuple[int, int] = (0, -1), limit: int = 1000) -> Sequence[LogLine]:
        """At most `limit` lines behind the place (attempt, number) `after`, in order."""
        return await self._patiently(store.logs, identity, after, limit)

    async def counts(self, ids: Collection[UUID]) -> Counter[Status]:
        """How many of `ids` stand at each status."""
        found = await self._patiently(store.progress, ids)
        return Counter({each.status: each.executions for each in found})

    async def wait(
        self, ids: Collection[UUID], on_progress: Callable[[Counter[Status]], None] | None = None
    ) -> Counter[Status]:
        """Wait until all of `ids` have ended; returns how many at each status. Raises UnknownId for what is not there.

        `on_progress` is told the counts after every look.
        """
        unfinished = set(ids)
        ended: Counter[Status] = Counter()
        pause = SHORTEST_POLL
        while True:
            began = monotonic()
            found = await self._patiently(store.progress, unfinished)
            if (missing := len(unfinished) - sum(each.executions for each in found)) > 0:
                raise UnknownId(f"{missing} of {len(unfinished)} executions to wait for do not exist")
            newly = {each.status: each.executions for each in found if each.status in TERMINAL}
            standing = {each.status: each.executions for each in found if each.status not in TERMINAL}
            unfinished.difference_update(identity for each in found for identity in each.ended)
            ended.update(newly)
            if on_progress is not None:
                on_progress(ended + Counter(standing))
            if not unfinished:
                return ended
            took = monotonic() - began
            pause = min(LONGEST_POLL, max(SHORTEST_POLL if newly else pause * 1.5, took * POLL_SHARE))
            await asyncio.sleep(pause)

    async def actions_list(self) -> Sequence[Registered]:
        """The newest version of every registered action, by name; withdrawn ones too."""
        return await self._patiently(store.actions_list)

    async def apply_actions(self, definitions: Iterable[Action], *, prune: bool = False) -> Applied:
        """Register definitions: what changed gets a new version. With `prune`, all others are withdrawn."""
        applied = await self._patiently(registry.apply_actions, list(definitions), prune=prune)
        if applied.keys:
            # In a transaction of its own: keys are locked once, and this one locks others with them.
            await self._patiently(store.admit, cancelled=(), reason="", keys=applied.keys, actor=self._actor)
        return applied

    async def examine(self) -> Examination:
        """Hold the database against the invariants, on one snapshot."""
        return await self._patiently(examine)

    async def _patiently(self, work: Callable[Concatenate[Tx, P], Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
        """Do `work` in a transaction; while the database says that it will pass, again. Work must bear a repeat."""
        for pause in PAUSES:
            try:
                async with transaction(self._pool) as tx:
                    return await work(tx, *args, **named)
            except Transient:
                await asyncio.sleep(pause)
        async with transaction(self._pool) as tx:
            return await work(tx, *args, **named)
