"""How rows are kept: moves of a whole flush stay on their pages, and messages are not compressed at a high price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.eventually import eventually
from tests.world import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.world import World

FLUSH = 500


@pytest.fixture
async def alone(database_url: str) -> AsyncIterator[World]:
    """A database that nobody has counted anything in."""
    async with opened(database_url) as world:
        await world.register()
        yield world


async def test_a_flush_that_moves_every_row_of_its_pages_stays_hot(alone: World) -> None:
    # The first move, as it needs no room that others' transactions may still keep from being cleaned.
    world = alone
    await world.worker(capacity=FLUSH)
    await world.limit("action:job", 0)
    await world.submit(FLUSH)
    await world.limit("action:job", None)

    async def told() -> tuple[int, int]:
        await world.tx.execute("SELECT pg_stat_force_next_flush()")
        row = await world.tx.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'execution'"
        )
        assert row is not None
        assert row["n_tup_upd"] == FLUSH
        return row["n_tup_upd"], row["n_tup_hot_upd"]

    updated, hot = await eventually(told)
    assert hot == updated


async def test_bodies_in_the_outbox_are_not_compressed_by_pglz(world: World) -> None:
    row = await world.tx.fetchrow(
        "SELECT attcompression::text AS compression, attstorage::text AS storage FROM pg_attribute"
        " WHERE attrelid = 'outbox'::regclass AND attname = 'body'"
    )
    assert row is not None
    assert "l" in row["compression"] or "e" in row["storage"]
