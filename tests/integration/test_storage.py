"""How rows are kept: moves of a whole flush stay on their pages, and messages are not compressed at a high price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.eventually import eventually
from tests.integration.test_plans import finish
from worker import store as worker_store

if TYPE_CHECKING:
    from tests.world import World

FLUSH = 500


async def test_a_flush_that_moves_every_row_of_its_pages_stays_hot(world: World) -> None:
    await world.worker(capacity=FLUSH)
    await world.limit("action:job", 0)
    ids = await world.submit(FLUSH)
    await world.limit("action:job", None)
    claim = await worker_store.claim(world.tx, world.hand, [(identity, 1) for identity in ids], "/worker/test")
    moved, _ = await worker_store.finish(world.tx, world.hand, [finish(row) for row in claim.claimed], "/worker/test")
    assert len(moved) == FLUSH

    async def told() -> tuple[int, int]:
        await world.tx.execute("SELECT pg_stat_force_next_flush()")
        row = await world.tx.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'execution'"
        )
        assert row is not None
        assert row["n_tup_upd"] == 3 * FLUSH
        return row["n_tup_upd"], row["n_tup_hot_upd"]

    updated, hot = await eventually(told)
    assert hot >= 0.95 * updated  # a row that grew may not fit; at a fill factor of 70 it is a third
    await world.admit(ended=ids)


async def test_bodies_in_the_outbox_are_not_compressed_by_pglz(world: World) -> None:
    row = await world.tx.fetchrow(
        "SELECT attcompression::text AS compression, attstorage::text AS storage FROM pg_attribute"
        " WHERE attrelid = 'outbox'::regclass AND attname = 'body'"
    )
    assert row is not None
    assert "l" in row["compression"] or "e" in row["storage"]
