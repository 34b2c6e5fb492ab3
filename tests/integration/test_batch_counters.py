"""Progress that concurrent handlers overwrite, made on purpose; then the same load on ours, which loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.attempts import WORKER, claim, ended
from tests.batches import counts, drives, sealed_batch, status
from worker import store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    import asyncpg

    from tests.world import World

HANDLERS = 64
EACH = 5
OUTCOMES = ("completed", "completed", "failed", "skipped", "partial")
"""How the partitions of one handler end: one of each batch of EACH is failed, skipped and partial."""


async def connected(world: World, stack: AsyncExitStack) -> list[World]:
    """As many connections as there are handlers."""
    others: list[AbstractAsyncContextManager[World]] = [world.another() for _ in range(HANDLERS)]
    return [await stack.enter_async_context(other) for other in others]


async def naive_handler(tx: asyncpg.Connection, all_have_read: asyncio.Barrier, ended: Sequence[str]) -> None:
    """Count as it is often done: read the document, count in memory, write the document."""
    progress = json.loads(await tx.fetchval("SELECT document FROM naive.progress WHERE job = 1"))
    await all_have_read.wait()
    for outcome in ended:
        progress[outcome] = progress.get(outcome, 0) + 1
    await tx.execute("UPDATE naive.progress SET document = $1 WHERE job = 1", json.dumps(progress))


async def test_a_progress_document_that_64_handlers_read_change_and_write_loses_most_updates(world: World) -> None:
    await world.tx.execute(
        "CREATE SCHEMA naive; CREATE TABLE naive.progress (job int PRIMARY KEY, document jsonb NOT NULL);"
        "INSERT INTO naive.progress VALUES (1, '{}')"
    )
    all_have_read = asyncio.Barrier(HANDLERS)
    try:
        async with AsyncExitStack() as stack:
            handlers = await connected(world, stack)
            async with asyncio.TaskGroup() as group:
                for handler in handlers:
                    group.create_task(naive_handler(handler.tx, all_have_read, OUTCOMES))
        progress = json.loads(await world.tx.fetchval("SELECT document FROM naive.progress WHERE job = 1"))
    finally:
        await world.tx.execute("DROP SCHEMA naive CASCADE")
    # Everybody has read before anybody wrote: whoever writes last has the only say, and the job stands at 1.6 %.
    assert sum(progress.values()) == EACH
    assert HANDLERS * EACH - sum(progress.values()) == 315


def ends(ids: Sequence[UUID]) -> list[store.Finish]:
    """How one worker's partitions end, as one flush."""
    return [ended(identity, outcome) for identity, outcome in zip(ids, OUTCOMES, strict=True)]


async def flush(worker: World, batch: UUID, ids: Sequence[UUID], all_are_ready: asyncio.Barrier) -> int:
    """End the partitions of one worker at the same time as all others, and drive the batch as an executor that hears.

    Returns how many ends of the batch that was.
    """
    await all_are_ready.wait()
    async with worker.tx.transaction():
        moved, _ = await store.finish(worker.tx, worker.hand, ends(ids), WORKER)
    assert set(moved) == set(ids)
    return len((await drives(worker, batch)).ended)


async def completed_events(world: World, identity: UUID) -> AsyncIterator[dict[str, object]]:
    """The events that tell of one execution's end."""
    for row in await world.tx.fetch("SELECT body FROM outbox WHERE exchange = 'completions'"):
        told = json.loads(row["body"])
        for event in told if isinstance(told, list) else [told]:
            if event["subject"] == str(identity):
                yield event


async def test_64_workers_that_flush_into_one_batch_at_once_lose_no_count_and_end_it_once(world: World) -> None:
    hands = [await world.worker(capacity=EACH) for _ in range(HANDLERS)]
    made = await sealed_batch(world, HANDLERS * EACH)
    shares = [made.partitions[start : start + EACH] for start in range(0, HANDLERS * EACH, EACH)]
    all_are_ready = asyncio.Barrier(HANDLERS)
    async with AsyncExitStack() as stack:
        workers = await connected(world, stack)
        for worker, hand, share in zip(workers, hands, shares, strict=True):
            worker.hand = hand
            assert set(await claim(worker, *share)) == set(share)
        async with asyncio.TaskGroup() as group:
            flushes = [
                group.create_task(flush(worker, made.id, share, all_are_ready))
                for worker, share in zip(workers, shares, strict=True)
            ]
    assert sum(each.result() for each in flushes) == 1
    rows = await world.tx.fetch(
        "SELECT status::text, count(*) AS n FROM execution WHERE parent_id = $1 GROUP BY status", made.id
    )
    assert {row["status"]: row["n"] for row in rows} == {name: n * HANDLERS for name, n in Counter(OUTCOMES).items()}
    counted = await counts(world, made.id)
    assert counted.pop("total") == HANDLERS * EACH == sum(counted.values())
    assert counted == {row["status"]: row["n"] for row in rows}
    assert await status(world, made.id) == "partial"
    told = [event async for event in completed_events(world, made.id)]
    assert [event["id"] for event in told] == [f"{made.id}/1/completed"]
    terminal = "SELECT count(*) FROM execution_transition WHERE execution_id = $1 AND is_terminal(target)"
    assert await world.tx.fetchval(terminal, made.id) == 1
