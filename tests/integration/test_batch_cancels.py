"""Giving up on a batch: by a cancel, a deadline, too many failures, a failed plan. Nothing of it is left alive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from executor import store
from executor.loops.timers import DEADLINES
from interlock.client.client import Client
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.batches import add, counts, drives, end, moves, open_batch, sealed_batch, status
from tests.races import one_waits_for_the_other
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from tests.world import World


async def cancels(world: World, batch: UUID, reason: str = "enough", target: Status = Status.CANCELLED) -> bool:
    """Cancel a batch as an executor does; return whether this did it."""
    async with world.tx.transaction():
        decision = store.Decision(id=batch, target=target)
        return bool((await store.admit(world.tx, ACTOR, decisions=[decision], reason=reason)).decided)


async def settles(world: World, batch: UUID) -> int:
    """Drive a batch until it has ended; return how often that took."""
    for times in range(1, 20):
        await drives(world, batch)
        if await world.tx.fetchval("SELECT ended_at FROM batch WHERE execution_id = $1", batch) is not None:
            return times
    raise AssertionError("it does not end")


async def test_a_cancel_ends_what_waits_tells_what_runs_to_stop_and_ends_the_batch_behind_them(world: World) -> None:
    made = await open_batch(world, 0, max_parallel=2)
    partitions = await add(world, made.id, ["a", "b", "c", "d"])
    held = [identity for identity in partitions if await status(world, identity) == "scheduled"]
    assert len(held) == 2
    await claim(world, held[0])
    assert await cancels(world, made.id)
    assert await status(world, made.id) == "cancelling"
    await drives(world, made.id)
    left = [identity for identity in partitions if identity != held[0]]
    assert await world.statuses(left) == ["cancelled"] * 3
    assert (await status(world, held[0]), await status(world, made.id)) == ("cancelling", "cancelling")
    await drives(world, made.id)
    assert await status(world, made.id) == "cancelling"
    assert await finish(world, held[0], "cancelled") == "cancelled"
    await drives(world, made.id)
    assert await status(world, made.id) == "cancelled"
    assert await counts(world, made.id) == {"total": 4, "cancelled": 4}


async def test_a_cancelled_batch_keeps_what_finished_before(world: World) -> None:
    made = await open_batch(world, 2)
    await end(world, made.partitions[0])
    await cancels(world, made.id)
    await settles(world, made.id)
    assert await counts(world, made.id) == {"total": 2, "completed": 1, "cancelled": 1}
    assert await world.statuses(made.partitions) == ["completed", "cancelled"]


async def test_with_drain_what_runs_finishes_and_what_waits_does_not_begin(world: World, stage_url: str) -> None:
    made = await open_batch(world, 2, max_parallel=1)
    admitted = [identity for identity in made.partitions if await status(world, identity) == "scheduled"]
    running, waiting = admitted[0], next(i for i in made.partitions if i != admitted[0])
    await claim(world, running)
    async with Client.connect(stage_url) as client:
        assert await client.batches.cancel(made.id, drain=True)
    await drives(world, made.id)
    assert (await status(world, running), await status(world, waiting)) == ("running", "cancelled")
    assert await finish(world, running, "completed") == "completed"
    await settles(world, made.id)
    assert await counts(world, made.id) == {"total": 2, "completed": 1, "cancelled": 1}


async def test_a_batch_whose_partitions_all_finished_before_its_cancel_stays_what_it_is(world: World) -> None:
    made = await sealed_batch(world, 1)
    await end(world, *made.partitions)
    await cancels(world, made.id)
    await settles(world, made.id)
    assert await status(world, made.id) == "completed"


async def test_a_cancel_that_meets_the_last_partition_leaves_one_end(world: World) -> None:
    for first in ("cancel", "end"):
        made = await sealed_batch(world, 1)
        await end(world, *made.partitions)
        steps: dict[str, Any] = {
            "cancel": lambda w, b=made: store.admit(
                w.tx, ACTOR, decisions=[store.Decision(id=b.id, target=Status.CANCELLED)], reason="enough"
            ),
            "end": lambda w, b=made: drives(w, b.id),
        }
        second = "end" if first == "cancel" else "cancel"
        async with world.another() as other:
            await one_waits_for_the_other(world, steps[first], other, steps[second])
        await settles(world, made.id)
        ends = [move["target"] for move in await moves(world, made.id) if move["target"] in ("completed", "cancelled")]
        assert ends == ["completed"], first


async def test_a_deadline_ends_a_batch_timed_out(world: World) -> None:
    made = await open_batch(world, 1, deadline="1h")
    due = await world.tx.fetchval("SELECT due > now() FROM timer WHERE execution_id = $1 AND kind = 'total'", made.id)
    assert due
    await cancels(world, made.id, DEADLINES["total"].reason, DEADLINES["total"].target)
    await settles(world, made.id)
    assert await status(world, made.id) == "timed_out"


@pytest.mark.parametrize("reason", ["timed_out: I say so", "failed: I say so"])
async def test_a_person_who_cancels_does_not_choose_the_end_by_words(world: World, reason: str) -> None:
    made = await open_batch(world, 1)
    await cancels(world, made.id, reason)
    await settles(world, made.id)
    assert await status(world, made.id) == "cancelled"


async def test_too_many_failures_stop_a_batch_that_fails_fast(world: World) -> None:
    made = await sealed_batch(world, 5, fail_fast=2)
    await end(world, made.partitions[0], target="failed")
    await drives(world, made.id)
    assert await status(world, made.id) == "running"
    await end(world, made.partitions[1], target="timed_out")
    await drives(world, made.id)
    assert await status(world, made.id) == "cancelling"
    await settles(world, made.id)
    assert await status(world, made.id) == "failed"
    assert await counts(world, made.id) == {"total": 5, "failed": 1, "timed_out": 1, "cancelled": 3}
    error = await world.tx.fetchval("SELECT error ->> 'message' FROM execution WHERE id = $1", made.id)
    assert error == "fail_fast: 2 partitions failed"


async def planned(world: World, **definition: Any) -> tuple[UUID, UUID]:  # noqa: ANN401 - of a Batch
    """Start a batch with a plan; return it and the execution that plans it."""
    plan = {"range": {"from": 1, "to": 3, "step": 1}}
    wanted = request("cut", definition={"run": {"action": "job"}, "partition": plan, **definition})
    (answer,) = (await world.accept(wanted)).answers
    assert answer.accepted and answer.refused is None, answer  # noqa: PT018 - one look
    assert answer.id is not None
    return answer.id, child_id(answer.id, 1, "$plan")


async def test_a_planning_that_fails_leaves_nothing_half_planned_alive(world: World) -> None:
    batch, plan = await planned(world)
    partitions = await add(world, batch, ["1", "2"])
    await claim(world, plan)
    assert await finish(world, plan, "failed", error='{"class": "X", "message": "no such column"}') == "failed"
    await drives(world, batch)
    assert await status(world, batch) == "cancelling"
    await settles(world, batch)
    assert await status(world, batch) == "failed"
    assert await world.statuses(partitions) == ["cancelled"] * 2
    error = await world.tx.fetchval("SELECT error ->> 'message' FROM execution WHERE id = $1", batch)
    assert error == "planning failed: no such column"


async def test_a_cancel_reaches_the_planning_too(world: World) -> None:
    batch, plan = await planned(world)
    assert await status(world, plan) == "scheduled"
    await cancels(world, batch)
    await settles(world, batch)
    assert (await status(world, plan), await status(world, batch)) == ("cancelled", "cancelled")
    assert await counts(world, batch) == {}


async def test_a_planning_that_runs_is_waited_for(world: World) -> None:
    batch, plan = await planned(world)
    await claim(world, plan)
    await cancels(world, batch)
    await drives(world, batch)
    assert (await status(world, plan), await status(world, batch)) == ("cancelling", "cancelling")
    await drives(world, batch)
    assert await status(world, batch) == "cancelling"
    assert await finish(world, plan, "cancelled") == "cancelled"
    await settles(world, batch)


async def test_a_cancel_before_its_batch_plans_nothing(world: World) -> None:
    await cancelled_before(world, items=[1])
    rows = await world.tx.fetch("SELECT kind, status::text FROM execution")
    assert [tuple(row) for row in rows] == [("batch", "cancelled")]
    assert await world.tx.fetchval("SELECT ended_at IS NOT NULL FROM batch")


async def test_a_batch_that_was_cancelled_before_it_came_is_not_planned_by_a_repeat(world: World) -> None:
    wanted = await cancelled_before(world, items=[1])
    (answer,) = (await world.accept(wanted)).answers
    assert answer.existing == UUID(wanted["id"])
    other = request("cut", definition=wanted["definition"])
    first, second = (await world.accept(wanted, other)).answers
    assert (first.accepted, second.accepted) == (False, True)
    rows = await world.tx.fetch("SELECT coalesce(parent_id, id) AS id, status::text FROM execution ORDER BY status")
    other_id = UUID(other["id"])
    assert sorted(map(tuple, rows)) == sorted(
        [(UUID(wanted["id"]), "cancelled"), (other_id, "running"), (other_id, "scheduled")]
    )
    await world.audit()


async def cancelled_before(world: World, items: list[int]) -> dict[str, Any]:
    """Ask for a batch whose cancel has come already; return the request."""
    wanted = request("cut", definition={"run": {"action": "job"}, "partition": {"items": items}})
    await world.tx.execute(
        "INSERT INTO cancel_tombstone VALUES ($1::uuid, 'too early', '/client/test', now() + interval '1 hour')",
        wanted["id"],
    )
    await world.accept(wanted)
    return wanted


async def test_a_thousand_waiting_partitions_are_cancelled_in_chunks(world: World) -> None:
    made = await open_batch(world, 1200, max_parallel=1)
    await cancels(world, made.id)
    assert await settles(world, made.id) == 4
    assert await counts(world, made.id) == {"total": 1200, "cancelled": 1200}
