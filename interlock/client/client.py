"""The client: one pool, one transaction per call, and patience with what passes. Decides nothing, publishes nothing.

Law 1. The row is the truth; a message is a hint. What a call returned is committed; what wrote messages leaves them to
the executors' next sweep.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Unpack

from uuid_utils.compat import uuid7

from interlock.acceptance.catalog import Catalog
from interlock.acceptance.store import accept
from interlock.adapters import migrations
from interlock.adapters.faults import reached
from interlock.adapters.postgres import mapped_errors, open_pool
from interlock.client import batch_registry, pools, queues, registry, store
from interlock.client.batch_replans import Replans
from interlock.client.cancels import Cancels
from interlock.client.doctor import examine
from interlock.client.explain import explain
from interlock.client.ids import AmbiguousId, Fragment, UnknownId
from interlock.client.poison import PoisonMessages
from interlock.client.polls import Pace, until_empty
from interlock.client.records import Page
from interlock.client.workers import Workers
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Pool

    from interlock.acceptance.store import Answer
    from interlock.adapters.postgres import Tx
    from interlock.client.bounds import Change
    from interlock.client.doctor import Examination
    from interlock.client.queue_records import Explanation, PoolState, Queue
    from interlock.client.records import Applied, Attempt, Execution, LogLine, Move, Registered, RegisteredBatch
    from interlock.contract.batches import Batch
    from interlock.contract.definitions import Action

CHUNK: Final = 500
CONNECTIONS: Final = 4
CLOSE_SECONDS: Final = 2.0
MOST_CANDIDATES: Final = 6
MOST_FRUITLESS: Final = 5
"""How many calls in a row may admit nothing because others change the lanes: executors go on with what is owed."""


class Client(Cancels):
    """Everything a user may ask of Interlock. Every call may raise Transient when the database stays away."""

    def __init__(self, pool: Pool[Any]) -> None:
        super().__init__(pool, f"/client/{uuid7()}")
        self.poison = PoisonMessages(pool)
        self.workers = Workers(pool)
        self.batches = Replans(pool, self._actor)
        self._catalog = Catalog()

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
            await reached("accept.committed")
        return answers

    async def _accept(self, tx: Tx, requests: Sequence[dict[str, Any]]) -> Sequence[Answer]:
        acceptance = await accept(tx, requests, catalog=self._catalog, actor=self._actor, now=datetime.now(UTC))
        await store.give_up_claim(tx, acceptance.messages)
        return acceptance.answers

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
            found |= await self._patiently(store.get, wanted[start : start + CHUNK])
        return {identity: found[identity] for identity in wanted if identity in found}

    async def list(
        self,
        *,
        status: Collection[Status] = (),
        action: str | None = None,
        tag: str | None = None,
        roots: bool = False,
        limit: int = 50,
        cursor: UUID | None = None,
    ) -> Page:
        """Executions that pass every filter, newest first; `cursor` is that of the page before.

        With `roots` the children of others are left out: the partitions of batches, and their planning.
        """
        found = await self._patiently(
            store.listed, before=cursor, statuses=status, action=action, tag=tag, roots=roots, limit=limit + 1
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
        pace = Pace()
        while True:
            pace.begin()
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
            await pace.rest(news=bool(newly))

    async def actions_list(self) -> Sequence[Registered]:
        """The newest version of every registered action, by name; withdrawn ones too."""
        return await self._patiently(store.actions_list)

    async def batches_list(self) -> Sequence[RegisteredBatch]:
        """The newest version of every registered batch, by name; withdrawn ones too."""
        return await self._patiently(batch_registry.batches_list)

    async def apply_actions(self, definitions: Iterable[Action | Batch], *, prune: bool = False) -> Applied:
        """Register definitions: what changed gets a new version. With `prune`, all others are withdrawn."""
        applied = await self._patiently(registry.apply_definitions, list(definitions), prune=prune)
        await self._admit_on(applied.keys)
        return applied

    async def _admit_on(self, keys: Sequence[int]) -> None:
        # In transactions of their own: keys are locked once, and an admission locks others with them.
        fruitless = 0
        while keys and fruitless < MOST_FRUITLESS:
            admission = await self._patiently(store.admit, self._actor, keys=keys)
            keys, fruitless = admission.more, 0 if admission.admitted else fruitless + 1

    async def queues(self, names: Collection[str] = (), *, idle: bool = False) -> Sequence[Queue]:
        """The keys called `names`, or all bounded or in use; with `idle` the others, too. Raises UnknownQueue."""
        return await self._patiently(queues.queues, names, idle=idle)

    async def limit(self, name: str, **change: Unpack[Change]) -> Queue:
        """Change what bounds a key, and admit what that lets through. What is not given stays, None takes a bound away.

        A key that nobody has had yet is made. Raises UnknownQueue and InvalidBounds.
        """
        return await self._changed(name, await self._patiently(queues.limit, name, change))

    async def pause(self, name: str) -> Queue:
        """Admit nothing more on a key; what has a slot goes on. Raises UnknownQueue."""
        return await self._changed(name, await self._patiently(queues.pause, name))

    async def resume(self, name: str) -> Queue:
        """Take back a pause, and admit. Raises UnknownQueue."""
        return await self._changed(name, await self._patiently(queues.resume, name))

    async def _changed(self, name: str, key: int) -> Queue:
        await self._admit_on([key])
        return next(queue for queue in await self.queues([name]) if queue.scope == "leaf")

    async def drained(self, name: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until nobody holds a slot of a paused key. Raises Resumed if it is paused no more, and UnknownQueue."""
        await until_empty(lambda: self._patiently(queues.held, name), name, on_progress)

    async def pools(self, names: Collection[str] = ()) -> Sequence[PoolState]:
        """The worker pools called `names`, or all. Raises UnknownPool."""
        return await self._patiently(pools.pools, names)

    async def pause_pool(self, name: str) -> PoolState:
        """Dispatch nothing more to a pool, and take back what no worker has taken yet. Raises UnknownPool."""
        await self._patiently(pools.pause_pool, name)
        while await self._patiently(self._take_back, name):
            pass
        return (await self.pools([name]))[0]

    async def _take_back(self, tx: Tx, pool: str) -> bool:
        ids, attempts = await pools.dispatched(tx, pool, CHUNK)
        target, reason = Status.REQUESTED, "pool paused"
        moved = await store.admit(tx, self._actor, decided=ids, attempts=attempts, target=target, reason=reason)
        return bool(moved.decided)

    async def resume_pool(self, name: str) -> PoolState:
        """Take back a pause, and dispatch. Raises UnknownPool."""
        await self._admit_on([await self._patiently(pools.resume_pool, name)])
        return (await self.pools([name]))[0]

    async def pool_drained(self, name: str, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until nothing is in flight in a paused pool. Raises Resumed if it is paused no more, and UnknownPool."""
        await until_empty(lambda: self._patiently(pools.pool_held, name), name, on_progress)

    async def explain(self, identity: UUID) -> Explanation:
        """Why one execution is where it is, at one moment. Raises UnknownId, and Unexplained for what must not be."""
        return await self._patiently(explain, identity)

    async def examine(self) -> Examination:
        """Hold the database against the invariants, on one snapshot."""
        return await self._patiently(examine)
