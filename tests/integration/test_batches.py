"""A batch: counters move with the partitions, and it ends on its total, once, when nothing is open any more."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from executor import batch_store
from executor.handlers.status_changed import ExecutionManager
from interlock.adapters.telemetry import Metrics
from interlock.client.client import Client
from interlock.contract import events
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.attempts import WORKER, claim, ended, finish
from tests.batches import COUNTS, add, counts, drives, end, moves, open_batch, seal, sealed_batch, status
from tests.races import one_waits_for_the_other
from tests.world import ACTOR, fresh_id, request
from worker import store as worker_store

if TYPE_CHECKING:
    from tests.world import World


async def test_a_batch_starts_at_once_and_says_that_it_is_a_parent(world: World) -> None:
    made = await open_batch(world)
    assert [(m["source"], m["target"]) for m in await moves(world, made.id)] == [
        (None, "requested"),
        ("requested", "running"),
    ]
    keys = await world.tx.fetch("SELECT routing_key FROM outbox WHERE exchange = 'status'")
    assert [row["routing_key"] for row in keys] == ["execution.status_changed.running.parent"]
    assert await world.tx.fetchval("SELECT count(*) FROM slot") == 0


async def test_the_ids_of_children_are_the_same_in_the_database_and_here(world: World) -> None:
    parent = fresh_id()
    for epoch, key in ((1, "$plan"), (2, "2026-01-01/müller"), (7, "a" * 255)):
        assert await world.tx.fetchval("SELECT child_id($1, $2, $3)", parent, epoch, key) == child_id(
            parent, epoch, key
        )
    child = child_id(parent, 1, "x")
    assert await world.tx.fetchval("SELECT $2 BETWEEN first_child($1) AND last_child($1)", parent, child)


@pytest.mark.parametrize("target", ["completed", "failed", "partial", "skipped", "timed_out"])
async def test_the_end_of_a_partition_is_counted_in_the_transaction_that_ends_it(world: World, target: str) -> None:
    made = await sealed_batch(world, 3)
    async with world.another() as other:
        transaction = world.tx.transaction()
        await transaction.start()
        await end(world, made.partitions[0], target=target)
        assert await counts(world, made.id) == {"total": 3, target: 1}
        assert await counts(other, made.id) == {"total": 3}
        await transaction.rollback()
    assert await counts(world, made.id) == {"total": 3}
    await end(world, made.partitions[0], target=target)
    assert await counts(world, made.id) == {"total": 3, target: 1}


async def test_a_flush_moves_each_counter_once(world: World) -> None:
    first, second = await sealed_batch(world, 40), await sealed_batch(world, 2)
    ids = [*first.partitions, *second.partitions]
    await claim(world, *ids)
    ends = [ended(identity, "completed") for identity in ids]
    async with world.tx.transaction():
        before = await world.tx.fetchval("SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'batch'")
        await worker_store.finish(world.tx, world.hand, ends, WORKER)
        after = await world.tx.fetchval("SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'batch'")
    assert after - before == 2
    assert await counts(world, first.id) == {"total": 40, "completed": 40}
    assert await counts(world, second.id) == {"total": 2, "completed": 2}


async def test_a_retry_is_no_end(world: World) -> None:
    made = await sealed_batch(world, 1)
    await claim(world, *made.partitions)
    await end_as_retry(world, made.partitions[0])
    await drives(world, made.id)
    assert await counts(world, made.id) == {"total": 1}
    assert await status(world, made.id) == "running"


async def end_as_retry(world: World, identity: UUID) -> None:
    assert await finish(world, identity, "requested", outcome="failed", delay=60.0) == "requested"


async def test_with_one_of_its_partitions_missing_a_batch_has_not_ended(world: World) -> None:
    """For every number of partitions from 1 to 1,000."""
    made = await open_batch(world)
    await world.tx.execute("UPDATE batch SET sealed_at = now() WHERE execution_id = $1", made.id)
    for total in range(1, 1001):
        await world.tx.execute(
            "UPDATE batch SET total = $2, completed = $2 - 1 WHERE execution_id = $1", made.id, total
        )
        assert (await drives(world, made.id)).ended == []
        # Nor when somebody judges that it has: the statement itself counts.
        forged = batch_store.BatchEnd(
            id=made.id, epoch=1, target=Status.COMPLETED, result="{}", error=None, reason=None
        )
        assert await batch_store.end_batches(world.tx, [forged], ACTOR) == ([], [])
    assert await status(world, made.id) == "running"
    await world.tx.execute("UPDATE batch SET completed = total WHERE execution_id = $1", made.id)
    assert (await drives(world, made.id)).ended == [made.id]


@pytest.mark.parametrize(
    ("ends", "policy", "expected"),
    [
        (["completed"] * 3, {}, "completed"),
        (["completed", "skipped"], {}, "completed"),
        (["completed", "failed"], {}, "partial"),
        (["failed", "failed"], {}, "failed"),
        (["failed", "timed_out"], {}, "failed"),
        (["completed", "failed"], {"max_failed": 0}, "failed"),
        (["completed", "failed"], {"partial_min": 0.6}, "failed"),
        (["partial", "completed"], {}, "partial"),
        ([], {}, "completed"),
        ([], {"fail_on_empty": True}, "failed"),
    ],
)
async def test_a_batch_ends_by_its_counts_and_its_policy(
    world: World, ends: list[str], policy: dict[str, object], expected: str
) -> None:
    made = await sealed_batch(world, len(ends), outcome=policy)
    for identity, target in zip(made.partitions, ends, strict=True):
        assert await status(world, made.id) == "running"
        await end(world, identity, target=target)
    assert (await drives(world, made.id)).ended == [made.id]
    assert await status(world, made.id) == expected
    told = json.loads(await world.tx.fetchval("SELECT result::text FROM execution WHERE id = $1", made.id))
    assert told["total"] == len(ends)
    assert {name: told[name] for name in COUNTS} == {name: ends.count(name) for name in COUNTS}


async def test_driven_again_an_ended_batch_stays_as_it_is_and_tells_nothing_twice(world: World) -> None:
    made = await sealed_batch(world, 1)
    await end(world, *made.partitions)
    assert (await drives(world, made.id)).ended == [made.id]
    again = await drives(world, made.id)
    assert (again.ended, again.messages) == ([], [])
    assert [m["target"] for m in await moves(world, made.id)] == ["requested", "running", "completed"]


async def test_an_open_batch_ends_only_when_it_is_sealed(world: World) -> None:
    made = await open_batch(world, 1)
    await end(world, *made.partitions)
    assert (await drives(world, made.id)).ended == []
    forged = batch_store.BatchEnd(id=made.id, epoch=1, target=Status.COMPLETED, result="{}", error=None, reason=None)
    assert await batch_store.end_batches(world.tx, [forged], ACTOR) == ([], [])
    assert await seal(world, made.id)
    assert not await seal(world, made.id)
    assert (await drives(world, made.id)).ended == [made.id]


async def test_a_seal_says_again_where_the_batch_stands_so_that_an_executor_looks(world: World) -> None:
    made = await open_batch(world)
    await world.tx.execute("DELETE FROM outbox")
    await seal(world, made.id)
    row = await world.tx.fetchrow("SELECT exchange, routing_key, body FROM outbox")
    assert row is not None
    assert (row["exchange"], row["routing_key"]) == ("status", "execution.status_changed.running.parent")
    event = json.loads(row["body"])
    assert (event["id"], event["data"]["to"]) == (f"{made.id}/1/2", "running")


async def test_the_last_two_partitions_at_once_end_the_batch_once(world: World) -> None:
    made = await sealed_batch(world, 2)
    await claim(world, *made.partitions)
    async with world.another() as other:
        other.hand = world.hand
        await one_waits_for_the_other(
            world, lambda w: finishes(w, made.partitions[0]), other, lambda w: finishes(w, made.partitions[1])
        )
        assert await counts(world, made.id) == {"total": 2, "completed": 2}
        ended = await asyncio.gather(drives(world, made.id), drives(other, made.id))
    assert sum(len(each.ended) for each in ended) == 1


async def finishes(world: World, identity: UUID) -> None:
    assert await finish(world, identity, "completed") == "completed"


async def test_of_32_executors_that_end_a_batch_one_does(world: World) -> None:
    made = await sealed_batch(world, 1)
    await end(world, *made.partitions)

    async def one() -> int:
        async with world.another() as other:
            return len((await drives(other, made.id)).ended)

    assert sum(await asyncio.gather(*(one() for _ in range(32)))) == 1
    terminal = "SELECT count(*) FROM execution_transition WHERE execution_id = $1 AND is_terminal(target)"
    assert await world.tx.fetchval(terminal, made.id) == 1


async def test_a_seal_that_meets_the_last_partition_loses_no_end(world: World) -> None:
    for first in ("seal", "finish"):
        made = await open_batch(world, 1)
        await claim(world, *made.partitions)
        steps = {"seal": lambda w, b=made: seal(w, b.id), "finish": lambda w, b=made: finishes(w, b.partitions[0])}
        second = "finish" if first == "seal" else "seal"
        async with world.another() as other:
            other.hand = world.hand
            await one_waits_for_the_other(world, steps[first], other, steps[second])
        assert (await drives(world, made.id)).ended == [made.id], first


async def test_a_partition_that_is_added_before_the_seal_is_counted_and_one_behind_it_refused(world: World) -> None:
    made = await open_batch(world)
    async with world.another() as other:
        await one_waits_for_the_other(world, lambda w: add(w, made.id, ["early"]), other, lambda w: seal(w, made.id))
    assert await counts(world, made.id) == {"total": 1}
    assert (await drives(world, made.id)).ended == []
    with pytest.raises(AssertionError, match="takes none"):
        await add(world, made.id, ["late"])


async def test_what_is_added_twice_is_there_once(world: World, stage_url: str) -> None:
    made = await open_batch(world)
    async with Client.connect(stage_url) as client:
        first = await client.batches.add(made.id, ["a", "b", "b"])
        again = await client.batches.add(made.id, ["b", "c"])
    assert (first.added, first.known) == (("a", "b"), ("b",))
    assert (again.added, again.known) == (("c",), ("b",))
    assert await counts(world, made.id) == {"total": 3}


async def test_a_partition_of_a_batch_that_no_longer_runs_is_handed_to_nobody(world: World) -> None:
    """For every status but running: by a message, and from the table."""
    made = await sealed_batch(world, 1)
    for ending in sorted(set(Status) - {Status.RUNNING}):
        transaction = world.tx.transaction()
        await transaction.start()
        await world.tx.execute("ALTER TABLE execution DISABLE TRIGGER execution_move_guard")
        await world.tx.execute(
            "UPDATE execution SET status = $2::text::status WHERE id = $1", made.id, ending
        )  # unguarded
        assert await claim(world, *made.partitions) == {}, ending
        assert await claimed_from_table(world) == set(), ending
        await transaction.rollback()
    assert await claimed_from_table(world) == set(made.partitions)


async def claimed_from_table(world: World) -> set[UUID]:
    claimed = await worker_store.claim_from_table(world.tx, world.hand, pool="default", most=10, older=-1, actor=WORKER)
    return {row["id"] for row in claimed.claimed}


async def test_a_request_for_a_batch_that_is_repeated_is_the_same_batch(world: World) -> None:
    wanted = request("cut", definition={"run": {"action": "job"}, "sealed": False})
    (first,) = (await world.accept(wanted)).answers
    (second,) = (await world.accept(wanted)).answers
    assert first.accepted
    assert (second.accepted, second.existing) == (False, first.id)
    assert await world.tx.fetchval("SELECT count(*) FROM batch") == 1


def told(world: World, batch: UUID, partition: UUID, attempt: int = 1) -> events.StatusChanged:
    """Say that a partition has completed."""
    data = {"id": str(partition), "attempt": attempt, "epoch": 1, "from": "running", "to": "completed"}
    return events.StatusChanged.model_validate(
        {
            "specversion": "1.0",
            "type": "execution.status_changed",
            "id": f"{partition}/1/4",
            "source": f"/worker/{world.hand}",
            "data": {**data, "action": "job", "parent_id": str(batch)},
        }
    )


@pytest.mark.parametrize("attempt", [1, 0], ids=["unchanged", "stale"])
async def test_a_status_that_is_there_already_is_not_written_and_drives_the_parent_on(
    world: World, attempt: int
) -> None:
    made = await sealed_batch(world, 1)
    await end(world, *made.partitions)
    metrics = Metrics()
    manager = ExecutionManager(actor=ACTOR, catalog=world.catalog, metrics=metrics)
    before = await world.tx.fetchval("SELECT xmin::text FROM execution WHERE id = $1", made.partitions[0])
    await manager(world.tx, [told(world, made.id, made.partitions[0], attempt)])
    assert await status(world, made.id) == "completed"
    assert await world.tx.fetchval("SELECT xmin::text FROM execution WHERE id = $1", made.partitions[0]) == before
    assert metrics.writes_skipped._value.get() == attempt  # noqa: SLF001 - prometheus has no reader of its own
    await manager(world.tx, [told(world, made.id, made.partitions[0], attempt)])
    assert [m["target"] for m in await moves(world, made.id)] == ["requested", "running", "completed"]


async def test_the_priority_and_the_pool_of_a_request_are_those_of_all_of_the_batch(world: World) -> None:
    wanted = request("cut", definition={"run": {"action": "job"}, "sealed": False}, priority=7, pool="gpu")
    assert (await world.accept(wanted)).answers[0].accepted
    batch = UUID(wanted["id"])
    (partition,) = await add(world, batch, ["a"])
    assert await world.tx.fetchval("SELECT priority FROM execution WHERE id = $1", partition) == 7
    pinned = json.loads(await world.tx.fetchval("SELECT definition::text FROM batch WHERE execution_id = $1", batch))
    assert (pinned["priority"], pinned["pool"]) == (7, "gpu")
