"""What the demonstration measures in the database turns red when it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.adapters.statements import Statements
from interlock.local.demo_stage import SAME_ROW, TRIPWIRE, UNCHANGED, WATCHED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.world import World

SQL = Statements("interlock.local")


async def test_no_admission_beyond_the_limit_is_overlooked(world: World) -> None:
    await world.register("checksum")
    ids = await world.submit(5, "checksum")
    for identity in ids:
        await world.run(world.hand, identity)
    assert await world.tx.fetchval(SQL["over_limit"], "checksum", 3) == 2
    assert await world.tx.fetchval(SQL["over_limit"], "checksum", 5) == 0
    assert await world.tx.fetchval(SQL["over_limit"], "job", 0) == 0
    assert await world.tx.fetchval(SQL["unchanged_moves"]) == 0


async def test_a_limit_that_holds_is_seen_to_hold(world: World) -> None:
    await world.limit("action:job", 3)
    ids = await world.submit(7)
    for identity in ids:
        await world.run(world.hand, identity)
        await world.admit(ended=[identity])
    assert await world.tx.fetchval(SQL["over_limit"], "job", 3) == 0
    assert await world.tx.fetchval(SQL["over_limit"], "job", 2) == 1
    assert await world.tx.fetchval(SQL["slots_held"]) == 0


async def test_the_busiest_worker_comes_first(world: World) -> None:
    other = await world.worker()
    ids = await world.submit(3)
    await world.claim(other, *ids[:2])
    await world.claim(world.hand, ids[2])
    rows = await world.tx.fetch(SQL["holders"], "job")
    assert [(row["worker_id"], row["held"]) for row in rows] == [(other, 2), (world.hand, 1)]
    assert await world.tx.fetch(SQL["holders"], "checksum") == []


@pytest.fixture
async def wired(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with the tripwire in it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(TRIPWIRE + "".join(SAME_ROW.format(table=table) for table in WATCHED))
        yield connection
    finally:
        await connection.close()


async def test_an_update_that_changes_nothing_is_counted(wired: asyncpg.Connection) -> None:
    await wired.execute("INSERT INTO queue (scope, name) VALUES ('leaf', 'a')")
    await wired.execute("UPDATE queue SET active = active + 1")
    assert await wired.fetch(UNCHANGED) == []
    await wired.execute("UPDATE queue SET active = active")
    assert [tuple(row) for row in await wired.fetch(UNCHANGED)] == [("queue", 1)]
