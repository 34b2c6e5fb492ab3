"""A lost worker's late result meets the reaper, or the next epoch: it counts once or not at all, in either order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import pytest

from executor import batch_store, store
from executor.loops import reaper
from executor.rules.loss import MAX_LOSSES, after_loss
from interlock.acceptance.candidates import planned
from interlock.acceptance.catalog import Catalog
from interlock.acceptance.lanes import lanes
from interlock.adapters.postgres import open_pool
from interlock.client.batch_records import Choice
from interlock.client.batches import NotRestartable
from interlock.client.client import Client
from interlock.client.doctor import examine
from interlock.client.store import SQL
from interlock.contract.identity import child_id
from interlock.contract.status import TERMINAL, Status
from tests.attempts import WORKER, claim, ended, finish
from tests.batches import Made, counts, drives, end, moves, sealed_batch, status
from tests.races import one_waits_for_the_other
from tests.world import ACTOR
from worker import store as worker_store
from worker.holdings import Holding
from worker.planning import Planner
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from uuid import UUID

    from executor.loops.periodic import Context
    from tests.world import World
    from worker.outcome import Outcome

LEASE = 25.0
PERIOD = 3.0
FAILURES = ("abandoned", "failed")
EVERYTHING = Choice(statuses=tuple(Status))


class Lost(NamedTuple):
    """A batch of two partitions: one has completed, the other is held by a worker whose lease has ended."""

    batch: Made
    partition: UUID
    attempt: int
    worker: UUID

    async def succeed(self, world: World) -> bool:
        """Let the lost worker report its success after all; whether it moved anything."""
        success = ended(self.partition, "completed", attempt=self.attempt, result='"late"')
        async with world.tx.transaction():
            moved, _ = await worker_store.finish(world.tx, self.worker, [success], WORKER)
        return self.partition in moved

    async def next_attempt_completes(self, world: World) -> None:
        """Let a worker that lives make it again; the lost one has nothing to say meanwhile."""
        assert self.partition in await claim(world, self.partition, attempt=self.attempt + 1)
        assert not await self.succeed(world)
        assert await finish(world, self.partition, "completed", attempt=self.attempt + 1) == "completed"


async def lost(world: World, *, losses: int = 0) -> Lost:
    """Lose the worker of a partition that has lost `losses` others before."""
    batch = await sealed_batch(world, 2)
    await end(world, batch.partitions[0])
    partition = batch.partitions[1]
    for attempt in range(1, losses + 2):
        world.hand, hand = await world.worker(), world.hand
        assert partition in await claim(world, partition, attempt=attempt)
        world.hand, gone = hand, world.hand
        await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 hour' WHERE id = $1", gone)
        if attempt <= losses:
            assert await reaps(world) == {partition}
    return Lost(batch, partition, losses + 1, gone)


async def reaps(world: World) -> set[UUID]:
    """Look for what is lost and move it on, as the reaper does; return what moved."""
    decisions = [
        store.Decision(
            id=row["execution_id"],
            attempt=row["attempt"],
            target=after_loss(Status(row["status"]), row["losses"], row["cancel_reason"]),
        )
        for row in await store.lost_executions(world.tx)
    ]
    assert decisions, "nothing is lost"
    async with world.tx.transaction():
        return set((await store.admit(world.tx, ACTOR, decisions=decisions, reason="worker lost")).decided)


async def both_drive(world: World, other: World, batch: UUID) -> int:
    """Two executors hear of it at once; return how many ends of the batch that made."""
    driven = await asyncio.gather(drives(world, batch), drives(other, batch))
    return sum(len(each.ended) for each in driven)


async def is_sound(world: World) -> None:
    """Counts are rows, what has ended holds nothing open, and no epoch of anything has two ends."""
    async with world.tx.transaction():
        examined = await examine(world.tx)
    assert [(verdict.name, verdict.rows) for verdict in examined.invariants if verdict.count] == []


async def ends(world: World, batch: UUID) -> list[tuple[int, str]]:
    """The ends of a batch: (epoch, status)."""
    return [(m["epoch"], m["target"]) for m in await moves(world, batch) if Status(m["target"]) in TERMINAL]


@pytest.mark.parametrize("first", ["reaper", "result"])
@pytest.mark.parametrize("becomes", ["requested", "abandoned", "cancelled"])
async def test_of_the_reaper_and_the_success_of_a_lost_partition_one_counts(
    world: World, becomes: str, first: str
) -> None:
    """`becomes` is where the reaper moves it: to another attempt, to its end, or to the end that a cancel asked for."""
    it = await lost(world, losses=MAX_LOSSES - 1 if becomes == "abandoned" else 0)
    if becomes == "cancelled":
        await world.admit(decide={it.batch.id: "cancelled"})
        await drives(world, it.batch.id)
    steps: dict[str, Callable[[World], Coroutine[Any, Any, Any]]] = {"reaper": reaps, "result": it.succeed}
    second = "result" if first == "reaper" else "reaper"
    async with world.another() as other:
        did = await one_waits_for_the_other(world, steps[first], other, steps[second])
        assert did == (({it.partition}, False) if first == "reaper" else (True, set()))
        if first == "reaper" and becomes == "requested":
            assert await counts(world, it.batch.id) == {"total": 2, "completed": 1}
            assert await both_drive(world, other, it.batch.id) == 0
            await it.next_attempt_completes(world)
        won = "completed" if first == "result" or becomes == "requested" else becomes
        expected = {"total": 2, "completed": 2} if won == "completed" else {"total": 2, "completed": 1, won: 1}
        assert await counts(world, it.batch.id) == expected
        assert await both_drive(world, other, it.batch.id) == 1
    assert not await it.succeed(world)
    assert await status(world, it.partition) == won
    outcome = {"completed": "completed", "abandoned": "partial", "cancelled": "cancelled"}[won]
    assert await ends(world, it.batch.id) == [(1, outcome)]
    assert await counts(world, it.batch.id) == expected
    await is_sound(world)


@pytest.mark.parametrize("point", ["reaper.read", "reaper.moved"])
@pytest.mark.parametrize("losses", [0, MAX_LOSSES - 1], ids=["requested", "abandoned"])
async def test_a_success_that_arrives_within_a_pass_of_the_reaper_counts_only_before_the_move(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch, losses: int, point: str
) -> None:
    it = await lost(world, losses=losses)
    arrived: list[bool] = []

    async def arrives(where: str) -> None:
        if where == point:
            arrived.append(await it.succeed(world))

    monkeypatch.setattr(reaper, "reached", arrives)
    # Of the several that are lost here nobody is to wait for a second look.
    await world.tx.execute("UPDATE worker SET ended_at = now() WHERE id <> $1 AND id <> $2", world.hand, it.worker)
    await reaper.Reaper(LEASE, period_seconds=PERIOD)(context)
    assert arrived == [point == "reaper.read"]
    if point == "reaper.moved" and losses == 0:
        await it.next_attempt_completes(world)
    abandoned = point == "reaper.moved" and losses > 0
    assert len((await drives(world, it.batch.id)).ended) == 1
    assert await counts(world, it.batch.id) == (
        {"total": 2, "completed": 1, "abandoned": 1} if abandoned else {"total": 2, "completed": 2}
    )
    assert await ends(world, it.batch.id) == [(1, "partial" if abandoned else "completed")]
    await is_sound(world)


async def restarts(world: World, batch: UUID, statuses: Collection[str] = FAILURES, epoch: int = 1) -> int:
    """Make what did not complete again, as a client that has seen this epoch end."""
    plan = planned(batch, epoch + 1, pool="default", priority=0)
    (lane,) = await lanes(world.tx, [plan])
    chosen: int = await world.tx.fetchval(
        SQL["restart_batch"],
        batch,
        epoch,
        sorted(statuses),
        None,
        None,
        plan.id,
        plan.pool,
        plan.priority,
        lane,
        "restarted",
        "/client/test",
    )
    return chosen


async def next_epoch_completes(world: World, it: Lost) -> None:
    """Plan the second epoch, and end what is in it."""
    plan = child_id(it.batch.id, 2, "$plan")
    assert plan in await claim(world, plan)
    pool = await open_pool(world.url, application="test", size=2)
    try:
        planner = Planner(world.hand, pool=pool, catalog=Catalog())
        holding = Holding(id=plan, attempt=1, started_at=datetime.now(UTC))
        await planner.run(holding, LogSink(lambda _entry: None), no_planner)
    finally:
        await pool.close()
    assert await counts(world, it.batch.id) == {"total": 2, "completed": 1}
    assert not await it.succeed(world)
    assert await finish(world, plan, "completed") == "completed"
    await end(world, child_id(it.batch.id, 2, "1"))


async def no_planner(*_: object) -> Outcome:
    raise AssertionError("a restart plans by no action")


@pytest.mark.parametrize("first", ["restart", "result"])
@pytest.mark.parametrize("losses", [0, MAX_LOSSES - 1], ids=["failed", "abandoned"])
async def test_a_late_success_of_the_former_epoch_touches_no_count_of_the_next(
    world: World, losses: int, first: str
) -> None:
    """Neither waits for the other: each comes while the other is not committed, and again at every later stage."""
    it = await lost(world, losses=losses)
    assert await reaps(world) == {it.partition}
    if not losses:
        assert it.partition in await claim(world, it.partition, attempt=2)
        assert await finish(world, it.partition, "failed", attempt=2) == "failed"
    assert len((await drives(world, it.batch.id)).ended) == 1
    async with world.another() as other:
        one, two = (world, other) if first == "restart" else (other, world)
        transaction = one.tx.transaction()
        await transaction.start()
        if first == "restart":
            assert await restarts(one, it.batch.id) == 1
            await comes_too_late(two, it)
        else:
            await comes_too_late(one, it)
            assert await restarts(two, it.batch.id) == 1
        await transaction.commit()
        await comes_too_late(other, it)
        assert await counts(world, it.batch.id) == {"total": 1, "completed": 1}
        await next_epoch_completes(world, it)
        await comes_too_late(other, it)
        assert await both_drive(world, other, it.batch.id) == 1
        await comes_too_late(other, it)
    assert await ends(world, it.batch.id) == [(1, "partial"), (2, "completed")]
    assert await counts(world, it.batch.id) == {"total": 2, "completed": 2}
    assert await status(world, it.partition) == ("abandoned" if losses else "failed")
    await is_sound(world)


async def comes_too_late(world: World, it: Lost) -> None:
    """What is left of the first epoch reports: the worker its result, and an executor the end that it had judged."""
    assert not await it.succeed(world)
    judged = batch_store.BatchEnd(id=it.batch.id, epoch=1, target=Status.PARTIAL, result="{}", error=None, reason=None)
    assert await batch_store.end_batches(world.tx, [judged], ACTOR) == ([], [])


async def test_a_restart_that_meets_the_last_result_of_its_epoch_changes_nothing(world: World) -> None:
    it = await lost(world)
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() + interval '1 hour'")
    async with world.another() as other, Client.connect(world.url) as client:
        transaction = world.tx.transaction()
        await transaction.start()
        assert await it.succeed(world)
        with pytest.raises(NotRestartable, match="is running"):
            await client.batches.restart(it.batch.id, EVERYTHING)
        # Nor when somebody thinks to have seen its end: the statement looks itself.
        with pytest.raises(asyncpg.SerializationError, match="somebody else has restarted"):
            await restarts(other, it.batch.id, ["completed"])
        await transaction.commit()
        assert await counts(world, it.batch.id) == {"total": 2, "completed": 2}
        with pytest.raises(NotRestartable, match="is running"):
            await client.batches.restart(it.batch.id, EVERYTHING)
        assert await both_drive(world, other, it.batch.id) == 1
        assert await client.batches.restart(it.batch.id, EVERYTHING) == 2
    assert await counts(world, it.batch.id) == {}
    assert await ends(world, it.batch.id) == [(1, "completed")]
    await is_sound(world)


async def test_a_restart_that_waits_for_the_end_of_its_epoch_begins_the_next_behind_it(world: World) -> None:
    it = await lost(world)
    assert await it.succeed(world)
    async with world.another() as other:
        ended_one, chosen = await one_waits_for_the_other(
            world, lambda w: drives(w, it.batch.id), other, lambda w: restarts(w, it.batch.id, ["completed"])
        )
    assert (ended_one.ended, chosen) == ([it.batch.id], 2)
    assert [(m["epoch"], m["target"]) for m in await moves(world, it.batch.id)] == [
        (1, "requested"), (1, "running"), (1, "completed"), (2, "running"),
    ]  # fmt: skip
    assert await counts(world, it.batch.id) == {}
    await is_sound(world)
