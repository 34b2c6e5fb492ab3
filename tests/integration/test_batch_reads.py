"""What is asked about a large batch costs at most what is in flight of it, also where it was a small one at first."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from executor import batch_store
from interlock.adapters.postgres import open_pool, transaction
from interlock.client.batches import Batches
from tests.attempts import claim
from tests.batches import Made, add, open_batch
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from asyncpg import Pool

    from tests.world import World

PARTITIONS = 400
OFTEN = 8
"""PostgreSQL keeps a plan after the fifth time."""
OF_THE_BATCH = 5
"""Rows that are read besides: its own, that of its planning, and of the move since which it counts."""
# Whoever has just closed a connection tells what it read a moment later.
ALONE = """
SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""
READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'execution'"


@asynccontextmanager
async def one_connection(world: World, *, hot: bool) -> AsyncIterator[Pool[Any]]:
    """A pool as the daemons have it, or as a client has it, of a single connection."""
    pool = await open_pool(world.url, application="test", size=1, hot=hot)
    try:
        yield pool
    finally:
        await pool.close()


async def rows_read(world: World, pool: Pool[Any], ask: Callable[[], Awaitable[object]]) -> int:
    """How many rows of executions are read to answer."""
    await eventually(lambda: world.tx.fetchval(ALONE))
    await world.tx.fetchval("SELECT pg_stat_force_next_flush()")
    await pool.fetchval("SELECT pg_stat_force_next_flush()")
    before = await world.tx.fetchval(READ)
    await ask()
    await pool.fetchval("SELECT pg_stat_force_next_flush()")
    await world.tx.execute("SELECT pg_stat_clear_snapshot()")
    return int(await world.tx.fetchval(READ) - before)


async def grown(world: World, made: Made) -> None:
    """Give it many partitions, of which many are in flight and none waits."""
    await world.worker(capacity=2 * PARTITIONS)
    partitions = await add(world, made.id, [str(number) for number in range(PARTITIONS)])
    assert len(await claim(world, *partitions[: PARTITIONS // 2])) == PARTITIONS // 2


async def test_the_progress_of_a_batch_that_grew_reads_no_execution_but_its_own_and_that_of_its_planning(
    world: World,
) -> None:
    made = await open_batch(world)
    async with one_connection(world, hot=False) as pool:
        batches = Batches(pool, "/client/test")
        for _ in range(OFTEN):
            assert (await batches.get(made.id)).made == 0
        await grown(world, made)
        assert await rows_read(world, pool, lambda: batches.get(made.id)) <= OF_THE_BATCH
        state = await batches.get(made.id)
    assert (state.made, state.running, state.scheduled) == (PARTITIONS, PARTITIONS // 2, PARTITIONS // 2)


async def test_what_a_cancel_is_to_reach_of_a_batch_that_grew_is_read_once(world: World) -> None:
    made = await open_batch(world)
    async with one_connection(world, hot=True) as pool:

        async def left() -> int:
            async with transaction(pool) as tx:
                return len(await batch_store.open_children(tx, made.id, PARTITIONS, drains=False))

        for _ in range(OFTEN):
            assert await left() == 0
        await grown(world, made)
        assert await rows_read(world, pool, left) <= PARTITIONS + OF_THE_BATCH
        assert await left() == PARTITIONS
