"""Lanes and keys that nobody uses are forgotten; what is used, set by a person or just being used is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from executor import store
from tests.eventually import eventually
from tests.world import request

if TYPE_CHECKING:
    from tests.world import World

DAY = 86_400.0


async def forget(world: World) -> tuple[int, int]:
    """Mark what is idle, let a day go by, and forget."""
    await store.forget_idle(world.tx, idle_seconds=DAY)
    await world.tx.execute("UPDATE lane SET idle_since = idle_since - interval '1 day'")
    await world.tx.execute("UPDATE queue SET created_at = created_at - interval '1 day'")
    row = await store.forget_idle(world.tx, idle_seconds=DAY)
    return row["lanes"], row["keys"]


async def customers(world: World) -> set[str]:
    return {row["name"] for row in await world.tx.fetch("SELECT name FROM queue WHERE name LIKE 'key:%'")}


async def test_a_lane_that_nobody_used_for_a_day_goes_with_its_key(world: World) -> None:
    for identity in await world.submit(2, concurrency_key="gone"):
        await world.run(world.hand, identity)
        await world.admit(ended=[identity])
    assert await forget(world) == (1, 1)
    assert await customers(world) == set()
    # The action's own key and the pool stay.
    assert await world.tx.fetchval("SELECT count(*) FROM queue") == 2
    assert await world.statuses(await world.submit(concurrency_key="gone")) == ["scheduled"]


async def test_a_day_has_not_gone_by_before_it_has(world: World) -> None:
    (identity,) = await world.submit(concurrency_key="young")
    await world.run(world.hand, identity)
    for _ in range(3):
        row = await store.forget_idle(world.tx, idle_seconds=DAY)
        assert (row["lanes"], row["keys"]) == (0, 0)


async def test_what_waits_runs_or_will_come_again_keeps_its_lane(world: World) -> None:
    await world.limit("key:waits", 0)
    (waits,) = await world.submit(concurrency_key="waits")
    (runs,) = await world.submit(concurrency_key="runs")
    await world.claim(world.hand, runs)
    (retried,) = await world.submit(concurrency_key="retried")
    await world.claim(world.hand, retried)
    await world.finish(world.hand, retried, "requested", delay=3600)
    later = "2100-01-01T00:00:00Z"
    (delayed,) = await world.submit(concurrency_key="delayed", not_before=later)
    assert await forget(world) == (0, 0)
    assert await customers(world) == {"key:waits", "key:runs", "key:retried", "key:delayed"}
    assert await world.statuses([waits, runs, retried, delayed]) == ["requested", "running", "requested", "requested"]


async def test_what_a_person_set_is_kept_without_a_lane(world: World) -> None:
    await world.set_queue("key:vip", lim=3, kept=True)
    await world.submit()
    await forget(world)
    assert await customers(world) == {"key:vip"}


async def test_an_idle_mark_is_taken_back_by_use(world: World) -> None:
    (first,) = await world.submit(concurrency_key="again")
    await world.run(world.hand, first)
    await store.forget_idle(world.tx, idle_seconds=DAY)
    await world.submit(concurrency_key="again")
    await store.forget_idle(world.tx, idle_seconds=DAY)
    assert await world.tx.fetchval("SELECT count(*) FROM lane WHERE idle_since IS NOT NULL") == 0


async def test_an_acceptance_that_is_under_way_keeps_its_lane(world: World) -> None:
    (first,) = await world.submit(concurrency_key="busy")
    await world.run(world.hand, first)
    async with world.another() as other:
        transaction = other.tx.transaction()
        await transaction.start()
        (late,) = await other.submit(concurrency_key="busy")
        assert await forget(world) == (0, 0)
        await transaction.commit()
        assert await world.statuses([late]) == ["scheduled"]


async def test_an_acceptance_whose_lane_goes_meanwhile_is_done_again(world: World) -> None:
    (first,) = await world.submit(concurrency_key="gone")
    await world.run(world.hand, first)
    wanted = request(concurrency_key="gone")

    async def accept_meanwhile(other: World) -> None:
        async with asyncio.TaskGroup() as group, world.tx.transaction():
            assert (await store.forget_idle(world.tx, idle_seconds=0))["lanes"] == 1
            group.create_task(other.accept(wanted))
            await eventually(lambda: world.is_blocking(other))

    async with world.another() as other:
        with pytest.raises(ExceptionGroup) as failed:
            await accept_meanwhile(other)
        assert failed.group_contains(asyncpg.SerializationError, match="forgotten meanwhile")
        await other.accept(wanted)
    assert await world.tx.fetchval("SELECT count(*) FROM execution WHERE id = $1", wanted["id"]) == 1


async def test_old_minutes_become_totals_and_lose_nothing(world: World) -> None:
    await world.limit("action:job", 1)
    ids = await world.submit(3)
    for identity in ids[:2]:
        await world.run(world.hand, identity)
        await world.admit(ended=[identity])
    totals = "SELECT event, sum(n)::int AS n FROM queue_minute GROUP BY event ORDER BY event"
    before = [tuple(row) for row in await world.tx.fetch(totals)]
    assert before == [("admitted", 3), ("finished", 2)]
    await store.fold_minutes(world.tx, older_seconds=3600)
    assert await world.tx.fetchval("SELECT count(*) FROM queue_minute WHERE minute = '-infinity'") == 0
    for _ in range(2):
        await world.tx.execute("UPDATE queue_minute SET minute = minute - interval '1 day' WHERE minute > '-infinity'")
        await store.fold_minutes(world.tx, older_seconds=3600)
    assert [tuple(row) for row in await world.tx.fetch(totals)] == [("admitted", 3), ("finished", 2)]
    assert {row["minute"] for row in await world.tx.fetch("SELECT minute::text FROM queue_minute")} == {"-infinity"}
