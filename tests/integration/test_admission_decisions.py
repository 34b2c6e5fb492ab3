"""What the executor decides: cancels, deadlines, losses. Under the key locks, from legal sources, by the fence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

JOB = "action:job"


async def test_a_cancelled_head_makes_the_next_one_the_head(world: World) -> None:
    await world.limit(JOB, 1)
    running, *ids = await world.submit(4)
    row = await world.admit(decide={ids[0]: "cancelled"})
    assert row["decided"] == [ids[0]]
    await world.audit()
    await world.run(world.hand, running)
    await world.admit(ended=[running])
    assert await world.statuses(ids) == ["cancelled", "scheduled", "requested"]


async def test_a_cancel_in_the_middle_of_a_lane_is_passed_over(world: World) -> None:
    await world.limit(JOB, 1)
    running, *ids = await world.submit(4)
    await world.admit(decide={ids[1]: "cancelled"})
    await world.audit()
    await world.run(world.hand, running)
    await world.admit(ended=[running])
    await world.run(world.hand, ids[0])
    await world.admit(ended=[ids[0]])
    assert await world.statuses(ids) == ["completed", "cancelled", "scheduled"]


async def test_the_last_waiter_of_a_lane_may_be_cancelled(world: World) -> None:
    await world.limit(JOB, 0)
    ids = await world.submit(2)
    await world.admit(decide=dict.fromkeys(ids, "cancelled"))
    assert (await world.key())["waiting"] == 0
    assert await world.tx.fetchval("SELECT count(*) FROM lane WHERE head_seq IS NOT NULL") == 0


async def test_a_cancel_of_what_is_scheduled_frees_its_slot_in_the_same_call(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    row = await world.admit(decide={ids[0]: "cancelled"})
    assert (row["released"], row["admitted"]) == (1, 1)
    assert await world.statuses(ids) == ["cancelled", "scheduled"]


async def test_what_runs_is_only_told_to_stop_and_keeps_its_slot(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    await world.claim(world.hand, ids[0])
    await world.admit(decide={ids[0]: "cancelled"}, reason="not needed")
    await world.admit(decide={ids[0]: "cancelled"}, reason="again")
    assert await world.statuses(ids) == ["cancelling", "requested"]
    assert await world.slots() == {ids[0]}
    row = await world.tx.fetchrow("SELECT cancel_reason, moves FROM execution WHERE id = $1", ids[0])
    assert row is not None
    assert (row["cancel_reason"], row["moves"]) == ("not needed", 4)


@pytest.mark.parametrize("target", ["requested", "abandoned"])
async def test_what_a_live_lease_holds_is_never_declared_lost(world: World, target: str) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    assert (await world.admit(decide={identity: target}))["decided"] == []
    assert await world.statuses([identity]) == ["running"]
    await _end_lease(world, world.hand)
    assert (await world.admit(decide={identity: target}))["decided"] == [identity]
    losses = await world.tx.fetchval("SELECT losses FROM execution WHERE id = $1", identity)
    assert losses == 1


async def test_a_lost_cancelling_ends_as_its_cancel_says_and_a_held_one_is_left_to_its_worker(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    await world.admit(decide={identity: "cancelled"})
    assert (await world.admit(decide={identity: "cancelled"}))["decided"] == []
    await _end_lease(world, world.hand)
    assert (await world.admit(decide={identity: "requested"}))["decided"] == []
    assert (await world.admit(decide={identity: "cancelled"}))["decided"] == [identity]
    assert await world.statuses([identity]) == ["cancelled"]


async def test_a_decision_about_another_attempt_moves_nothing(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    assert await world.finish(world.hand, identity, "requested") == 1
    await world.admit(entering=[identity])
    assert (await world.admit(decide={identity: "requested"}, attempt=1))["decided"] == []
    assert (await world.admit(decide={identity: "requested"}, attempt=2))["decided"] == [identity]


@pytest.mark.parametrize("target", ["cancelled", "timed_out", "failed", "requested", "abandoned"])
async def test_what_has_ended_is_never_decided_again(world: World, target: str) -> None:
    (identity,) = await world.submit()
    await world.run(world.hand, identity)
    assert (await world.admit(decide={identity: target}))["decided"] == []
    assert await world.statuses([identity]) == ["completed"]


async def test_a_scheduled_execution_given_back_waits_again_and_its_old_attempt_is_fenced(world: World) -> None:
    await world.limit(JOB, 1)
    (identity,) = await world.submit()
    await world.limit(JOB, 0)
    assert (await world.admit(decide={identity: "requested"}))["released"] == 1
    assert await world.statuses([identity]) == ["requested"]
    await world.limit(JOB, 1)
    row = await world.tx.fetchrow("SELECT status::text, attempt FROM execution WHERE id = $1", identity)
    assert row is not None
    assert (row["status"], row["attempt"]) == ("scheduled", 2)


async def _end_lease(world: World, worker: UUID) -> None:
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second' WHERE id = $1", worker)
