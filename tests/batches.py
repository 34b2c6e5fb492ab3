"""Batches in any state, made by the product's own statements: for tests of what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from executor.handlers.parents import drive
from interlock.acceptance.partitions import Parent, add_partitions, partition_candidate
from interlock.contract.batches import Batch
from interlock.contract.identity import child_id
from tests.attempts import claim, finish
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from executor.handlers.outgoing import Outgoing
    from tests.world import World

COUNTS = ("completed", "partial", "failed", "timed_out", "cancelled", "abandoned", "skipped")


class Made(NamedTuple):
    """A batch and its partitions, in the order of their keys."""

    id: UUID
    partitions: list[UUID]


async def open_batch(world: World, count: int = 0, **definition: Any) -> Made:  # noqa: ANN401 - of a Batch
    """Start a batch that nobody plans, with `count` partitions of the action `job` in it, all admitted."""
    given = {"run": {"action": "job"}, "sealed": False, "max_parallel": None, **definition}
    wanted = request("cut", definition=given)
    (answer,) = (await world.accept(wanted)).answers
    assert answer.accepted, answer
    assert answer.refused is None, answer.refused
    batch = UUID(wanted["id"])
    return Made(batch, await add(world, batch, [str(n) for n in range(count)]))


async def add(world: World, batch: UUID, keys: Sequence[str]) -> list[UUID]:
    """Add partitions of these keys, in a transaction of its own unless one is open."""
    row = await world.tx.fetchrow("SELECT epoch, definition::text FROM batch WHERE execution_id = $1", batch)
    assert row is not None
    parent = Parent(batch, row["epoch"], Batch.from_stored(row["definition"]))
    entry = (await world.catalog.current(world.tx, ["job"]))["job"]
    async with world.tx.transaction():
        if keys:
            candidates = [partition_candidate(parent, entry, key, {}) for key in keys]
            assert await add_partitions(world.tx, batch, candidates, ACTOR) is not None, "the batch takes none"
    return [child_id(batch, parent.epoch, key) for key in keys]


async def seal(world: World, batch: UUID) -> bool:
    """Seal a batch."""
    return bool(await world.tx.fetchval("SELECT seal_batch($1, $2)", batch, ACTOR))


async def sealed_batch(world: World, count: int, **definition: Any) -> Made:  # noqa: ANN401 - of a Batch
    """Start a batch of `count` partitions to which nothing is added any more."""
    made = await open_batch(world, count, **definition)
    assert await seal(world, made.id)
    return made


async def end(world: World, *ids: UUID, target: str = "completed", **fields: Any) -> None:  # noqa: ANN401 - of a Finish
    """Claim partitions and end them as a worker does; tell no executor."""
    assert set(await claim(world, *ids)) == set(ids)
    for identity in ids:
        assert await finish(world, identity, target, **fields) == target


async def drives(world: World, *batches: UUID) -> Outgoing:
    """Do what an executor does that hears of a child of these batches."""
    async with world.tx.transaction():
        return await drive(world.tx, batches, ACTOR, world.catalog)


async def status(world: World, identity: UUID) -> str:
    """Where an execution stands."""
    (found,) = await world.statuses([identity])
    return found


async def counts(world: World, batch: UUID) -> dict[str, int]:
    """The counters of a batch that are not zero, its total among them."""
    row = await world.tx.fetchrow("SELECT * FROM batch WHERE execution_id = $1", batch)
    assert row is not None
    return {name: row[name] for name in ("total", *COUNTS) if row[name]}


async def moves(world: World, identity: UUID) -> list[asyncpg.Record]:
    """The moves of one execution: (source, target, epoch, reason)."""
    rows: list[asyncpg.Record] = await world.tx.fetch(
        "SELECT source::text, target::text, epoch, reason FROM execution_transition"
        " WHERE execution_id = $1 ORDER BY move",
        identity,
    )
    return rows
