"""Plans a batch: turns its definition into partitions, a chunk at a time, each in one transaction with the cursor.

Law 5. Handling twice equals handling once: the cursor moves with the partitions, so that another attempt goes on where
this one stopped, and must find the same keys before it. Memory is that of one chunk, however long the plan.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import orjson

from interlock.acceptance.candidates import PLAN
from interlock.acceptance.entries import Entry
from interlock.acceptance.partitions import Parent, Step
from interlock.actions.validation import Schema
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import BadData, single_statements, transaction
from interlock.contract.batches import Batch
from interlock.contract.definitions import Action, Retry
from interlock.contract.errors import Transient
from worker import store
from worker.outcome import Outcome, failed, settle
from worker.plan_steps import Looks, Partitions
from worker.plans import Plan, of_action, of_items, of_preview, of_superseded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from asyncpg import Pool, Record

    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.postgres import Tx
    from worker.holdings import Holding
    from worker.plan_steps import Steps
    from worker.plans import Item, RunAction
    from worker.runners.logsink import LogSink

T = TypeVar("T")
CHUNK: Final = 5_000
DATABASE_PAUSE_SECONDS: Final = 1.0
HOPELESS: Final = ("DuplicatePartition", "PlanChanged", "unknown_action", "invalid_params", "PlanUnreadable")
PLANNING: Final = Entry(
    # Not validated: no definition can have this name, or run nothing.
    action=Action.model_construct(action=PLAN, retry=Retry(max_attempts=3, not_errors=HOPELESS)),
    version=0,
    withdrawn=False,
    schema=Schema({"type": "object"}),
)
"""What stands in for the definition of an execution that plans."""


class Place(NamedTuple):
    """Where a plan stands: how many of its items are partitions, and the digest over their keys."""

    cursor: int
    digest: str


class Planner:
    """Runs the executions that plan. Writes partitions through one database function, which checks the fence."""

    def __init__(self, worker: UUID, *, pool: Pool[Any], catalog: Catalog) -> None:
        self._worker = worker
        self._pool = pool
        self._catalog = catalog
        self._log = get_logger("planning")

    async def run(self, holding: Holding, sink: LogSink, run: RunAction) -> Outcome:
        """Plan to the end, from where another attempt stopped."""
        standing = await self._standing(holding)
        if standing is None or not standing["runs"]:
            return failed("BatchEnded", "the batch no longer runs, or its plan is asked for anew")
        if standing["planned"]:
            return settle({"partitions": standing["cursor"]})
        parent = Parent(standing["batch"], standing["epoch"], Batch.from_stored(standing["definition"]))
        entry = await self._current(parent.batch.run.action)
        params = orjson.loads(standing["params"])
        preview = standing["preview"]
        looks = preview == holding.id
        if preview is not None and not looks:
            plan = of_preview(self._patiently, preview, CHUNK)
        elif parent.epoch > 1 and not looks:
            plan = of_superseded(self._patiently, parent.id, CHUNK)
        elif parent.batch.partition is not None and parent.batch.partition.action is not None:
            plan = await of_action(parent.batch, params, holding, sink, run, self._current)
        else:
            plan = of_items(parent.batch, params)
        steps = Looks(preview) if looks else Partitions(parent, entry)
        return await self._plan(plan, steps, holding, Place(standing["cursor"], standing["digest"]))

    async def _plan(self, plan: Plan, steps: Steps, holding: Holding, place: Place) -> Outcome:
        hasher, seen, cursor = hashlib.sha256(), 0, place.cursor
        async with plan.opened() as items:
            async for chunk, whole in _chunks(items):
                known = min(len(chunk), max(0, place.cursor - seen))
                _add(hasher, chunk[:known])
                if known and seen + known == place.cursor and hasher.hexdigest() != place.digest:
                    return failed("PlanChanged", f"the first {place.cursor} items are not those of the attempt before")
                seen += len(chunk)
                fresh = chunk[known:]
                _add(hasher, fresh)
                if not fresh and not whole:
                    continue
                step = Step(holding.id, holding.attempt, self._worker, cursor, len(fresh), hasher.hexdigest(), whole)
                if (problem := await self._commit(step, steps, fresh, holding)) is not None:
                    return problem
                cursor += len(fresh)
                await reached("plan.committed")
        if cursor < place.cursor:
            return failed("PlanChanged", f"the plan has {seen} items, the attempt before had found {place.cursor}")
        self._log.info("planned", execution_id=str(holding.id), partitions=cursor)
        return settle({"partitions": cursor})

    async def _commit(self, step: Step, steps: Steps, items: Sequence[Item], holding: Holding) -> Outcome | None:
        """Commit one step, whatever the database does meanwhile; returns what ends the planning, or None."""
        if (repeated := _repeated(items)) is not None:
            return failed("DuplicatePartition", f"the partition {repeated!r} is in the plan twice: make its key unique")
        write = await steps.ready(items)
        while True:
            try:
                async with transaction(self._pool) as tx:
                    taken = await write(tx, step)
            except BadData as error:
                return await self._refused(steps, items, error)
            except Transient as error:
                self._log.warning("planning waits for the database", reason=str(error))
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)
                continue
            if taken:
                return None
            standing = await self._standing(holding)
            if standing is not None and standing["cursor"] == step.cursor + step.items and step.items:
                return None  # An earlier try was committed, and its answer was lost.
            return failed("BatchEnded", "the batch no longer runs, or another attempt plans it")

    async def _refused(self, steps: Steps, items: Sequence[Item], error: BadData) -> Outcome:
        key = await self._patiently(lambda tx: steps.repeated(tx, items))
        if key is not None:
            return failed("DuplicatePartition", f"the partition {key!r} is in the plan twice: make its key unique")
        return failed("PlanUnreadable", f"a partition cannot be stored: {error}")

    async def _standing(self, holding: Holding) -> Record | None:
        return await self._patiently(lambda tx: store.plan_standing(tx, holding.id))

    async def _current(self, name: str) -> Entry:
        return await self._patiently(lambda tx: self._catalog.runnable(tx, name))

    async def _patiently(self, read: Callable[[Tx], Awaitable[T]]) -> T:
        """Read, whatever the database does meanwhile: that it was away is no failure of the plan."""
        while True:
            try:
                async with single_statements(self._pool) as tx:
                    return await read(tx)
            except Transient as error:
                self._log.warning("planning waits for the database", reason=str(error))
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)


async def _chunks(items: AsyncIterator[Item]) -> AsyncIterator[tuple[list[Item], bool]]:
    """Cut into chunks, and tell which is the last; a plan without items is one empty chunk."""
    chunk: list[Item] = []
    async for item in items:
        if len(chunk) == CHUNK:
            yield chunk, False
            chunk = []
        chunk.append(item)
    yield chunk, True


def _add(hasher: Any, items: Sequence[Item]) -> None:  # noqa: ANN401 - hashlib names no type
    for item in items:
        hasher.update(item.key.encode() + b"\0")


def _repeated(items: Sequence[Item]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            return item.key
        seen.add(item.key)
    return None
