"""Two real transactions on one key or row, in both orders: the second waits for the first, then sees what it did."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.races import one_waits_for_the_other
from tests.world import World, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

JOB = "action:job"


@asynccontextmanager
async def limited(world: World, lim: int, count: int) -> AsyncIterator[tuple[World, list[UUID]]]:
    """Give a second connection and `count` executions under a limit."""
    await world.limit(JOB, lim)
    ids = await world.submit(count)
    async with world.another() as other:
        yield other, ids


async def test_two_releases_of_the_same_execution_release_one_slot(world: World) -> None:
    async with limited(world, 1, 3) as (other, ids):
        await world.run(world.hand, ids[0])
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(ended=[ids[0]])
        )
        assert [(r["released"], r["admitted"]) for r in (first, second)] == [(1, 1), (0, 0)]
        assert await world.slots() == {ids[1]}


async def test_two_releases_of_different_executions_admit_one_each(world: World) -> None:
    async with limited(world, 2, 4) as (other, ids):
        await world.run(world.hand, *ids[:2])
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(ended=[ids[1]])
        )
        assert [(r["released"], r["admitted"]) for r in (first, second)] == [(1, 1), (1, 1)]
        assert await world.slots() == set(ids[2:])


async def test_two_acceptances_under_one_limit_never_admit_more_than_it(world: World) -> None:
    await world.limit(JOB, 3)
    async with world.another() as other:
        first, second = await one_waits_for_the_other(world, lambda w: w.submit(2), other, lambda w: w.submit(2))
        assert await world.statuses([*first, *second]) == ["scheduled"] * 3 + ["requested"]


async def test_a_first_limit_waits_for_an_open_acceptance_and_counts_what_it_accepted(world: World) -> None:
    await world.submit()
    async with world.another() as other:
        ids, _ = await one_waits_for_the_other(world, lambda w: w.submit(2), other, lambda w: w.limit(JOB, 2))
        assert set(ids) < await world.slots()
        assert (await world.key())["active"] == 3


async def test_an_acceptance_that_meets_a_first_limit_is_done_again_and_obeys_it(world: World) -> None:
    await world.submit()
    async with world.another() as other:
        wanted = request()
        # Nobody may slip through between the look at the gate and the lock: the whole flush is to be done again.
        with pytest.raises(ExceptionGroup) as failed:
            await one_waits_for_the_other(world, lambda w: w.limit(JOB, 1), other, lambda w: w.accept(wanted))
        assert failed.group_contains(asyncpg.SerializationError, match="limited meanwhile")
        await other.accept(wanted)
        assert (await world.key())["waiting"] == 1


async def test_an_acceptance_that_meets_the_pause_of_its_pool_is_done_again_and_waits(world: World) -> None:
    await world.submit()
    async with world.another() as other:
        wanted = request()
        with pytest.raises(ExceptionGroup) as failed:
            await one_waits_for_the_other(
                world, lambda w: w.set_queue("default", "pool", paused=True), other, lambda w: w.accept(wanted)
            )
        assert failed.group_contains(asyncpg.SerializationError, match="limited meanwhile")
        await other.accept(wanted)
        assert (await world.key("default", "pool"))["waiting"] == 1


async def test_a_cancel_and_an_admission_of_the_same_execution_exclude_each_other(world: World) -> None:
    async with limited(world, 1, 3) as (other, ids):
        await world.run(world.hand, ids[0])
        cancelled, admitted = await one_waits_for_the_other(
            world, lambda w: w.admit(decide={ids[1]: "cancelled"}), other, lambda w: w.admit(ended=[ids[0]])
        )
        assert (cancelled["decided"], admitted["released"]) == ([ids[1]], 1)
        assert await world.statuses(ids) == ["completed", "cancelled", "scheduled"]


async def test_a_cancel_that_comes_after_the_admission_takes_the_slot_back(world: World) -> None:
    async with limited(world, 1, 3) as (other, ids):
        await world.run(world.hand, ids[0])
        admitted, cancelled = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(decide={ids[1]: "cancelled"})
        )
        assert (admitted["admitted"], cancelled["decided"], cancelled["released"]) == (1, [ids[1]], 1)
        assert await world.statuses(ids) == ["completed", "cancelled", "scheduled"]


async def test_a_cancel_that_waited_for_a_claim_reaches_what_runs(world: World) -> None:
    async with limited(world, 1, 1) as (other, ids):
        _, cancelled = await one_waits_for_the_other(
            world, lambda w: w.claim(w.hand, ids[0]), other, lambda w: w.admit(decide={ids[0]: "cancelled"})
        )
        assert cancelled["decided"] == ids
        assert await world.statuses(ids) == ["cancelling"]


async def test_a_claim_that_waited_for_a_cancel_gets_nothing(world: World) -> None:
    async with limited(world, 1, 1) as (other, ids):
        _, claimed = await one_waits_for_the_other(
            world, lambda w: w.admit(decide={ids[0]: "cancelled"}), other, lambda w: w.claim(world.hand, ids[0])
        )
        assert claimed == 0
        assert await world.statuses(ids) == ["cancelled"]


@pytest.mark.parametrize("target", ["completed", "requested"])
async def test_a_cancel_that_waited_for_the_outcome_respects_it(world: World, target: str) -> None:
    async with limited(world, 1, 1) as (other, ids):
        await world.claim(world.hand, ids[0])
        _, cancelled = await one_waits_for_the_other(
            world,
            lambda w: w.finish(w.hand, ids[0], target),
            other,
            lambda w: w.admit(decide={ids[0]: "cancelled"}),
        )
        ended = target == "completed"
        assert cancelled["decided"] == ([] if ended else ids)
        assert await world.statuses(ids) == ["completed" if ended else "cancelled"]


async def test_a_lease_that_was_renewed_while_the_reaper_waited_is_alive(world: World) -> None:
    async with limited(world, 1, 1) as (other, ids):
        await world.claim(world.hand, ids[0])
        await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second'")

        async def renew_and_hold(w: World) -> None:
            await w.tx.execute("SELECT 1 FROM execution WHERE id = $1 FOR UPDATE", ids[0])
            await w.tx.execute("UPDATE worker SET lease_expires_at = now() + interval '1 minute'")

        _, reaped = await one_waits_for_the_other(
            world, renew_and_hold, other, lambda w: w.admit(decide={ids[0]: "requested"})
        )
        assert reaped["decided"] == []


async def test_two_acceptances_of_the_same_id_make_one_row_and_the_second_hears_of_it(world: World) -> None:
    wanted = request()
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world, lambda w: w.accept(wanted), other, lambda w: w.accept(wanted)
        )
        assert first.answers[0].accepted
        assert (second.answers[0].accepted, str(second.answers[0].existing)) == (False, wanted["id"])
        assert second.answers[0].error is None


async def test_two_acceptances_with_one_idempotency_key_make_one_row(world: World) -> None:
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world,
            lambda w: w.accept(request(idempotency_key="once")),
            other,
            lambda w: w.accept(request(idempotency_key="once")),
        )
        assert second.answers[0].existing == first.answers[0].id
        assert await world.tx.fetchval("SELECT count(*) FROM execution") == 1


async def test_acceptances_of_the_same_new_keys_in_opposite_orders_do_not_deadlock(world: World) -> None:
    a, b = (request(concurrency_key=name) for name in "ab")
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world, lambda w: w.accept(a, b), other, lambda w: w.accept(*({**r, "id": request()["id"]} for r in (b, a)))
        )
        assert all(answer.accepted for acceptance in (first, second) for answer in acceptance.answers)


async def test_two_executors_that_admit_on_one_key_hand_out_each_slot_once(world: World) -> None:
    async with limited(world, 1, 4) as (other, ids):
        key = await world.set_limit(JOB, 2)
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(keys=[key]), other, lambda w: w.admit(keys=[key])
        )
        assert [row["admitted"] for row in (first, second)] == [1, 0]
        assert await world.slots() == set(ids[:2])


async def test_a_release_and_a_cancel_of_another_holder_give_back_one_slot_each_in_both_orders(world: World) -> None:
    async with limited(world, 2, 6) as (other, ids):
        await world.run(world.hand, ids[0])
        released, cancelled = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(decide={ids[1]: "cancelled"})
        )
        assert [(row["released"], row["admitted"]) for row in (released, cancelled)] == [(1, 1), (1, 1)]
        await world.run(world.hand, ids[2])
        cancelled, released = await one_waits_for_the_other(
            world, lambda w: w.admit(decide={ids[3]: "cancelled"}), other, lambda w: w.admit(ended=[ids[2]])
        )
        assert [(row["released"], row["admitted"]) for row in (cancelled, released)] == [(1, 1), (1, 1)]
        assert await world.slots() == {ids[4], ids[5]}


async def test_a_release_of_what_a_cancel_ends_meanwhile_gives_its_slot_back_once(world: World) -> None:
    async with limited(world, 1, 3) as (other, ids):
        cancelled, released = await one_waits_for_the_other(
            world, lambda w: w.admit(decide={ids[0]: "cancelled"}), other, lambda w: w.admit(ended=[ids[0]])
        )
        assert [(row["released"], row["admitted"]) for row in (cancelled, released)] == [(1, 1), (0, 0)]
        assert await world.slots() == {ids[1]}


@pytest.mark.parametrize(("change", "free"), [({"lim": 1}, 0), ({"lim": 0}, 0), ({"paused": True}, 0), ({"lim": 4}, 2)])
async def test_an_admission_that_waited_for_a_change_of_its_key_obeys_it(
    world: World, change: dict[str, Any], free: int
) -> None:
    async with limited(world, 3, 8) as (other, ids):
        await world.run(world.hand, ids[0])
        _, admitted = await one_waits_for_the_other(
            world, lambda w: w.set_queue(JOB, **change), other, lambda w: w.admit(ended=[ids[0]])
        )
        assert (admitted["released"], admitted["admitted"]) == (1, free)
        assert len(await world.slots()) == 2 + free


@pytest.mark.parametrize("change", [{"lim": 1}, {"paused": True}])
async def test_a_change_that_waited_for_an_admission_revokes_nothing_and_holds_from_then_on(
    world: World, change: dict[str, Any]
) -> None:
    async with limited(world, 3, 8) as (other, ids):
        await world.run(world.hand, ids[0])
        admitted, _ = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.set_queue(JOB, **change)
        )
        assert admitted["admitted"] == 1
        await world.run(world.hand, ids[1])
        assert (await world.admit(ended=[ids[1]]))["admitted"] == 0
        assert await world.slots() == {ids[2], ids[3]}


async def test_an_acceptance_that_waited_for_a_lower_limit_obeys_it(world: World) -> None:
    async with limited(world, 3, 1) as (other, ids):
        _, late = await one_waits_for_the_other(world, lambda w: w.set_limit(JOB, 1), other, lambda w: w.submit(2))
        assert await world.statuses([*ids, *late]) == ["scheduled", "requested", "requested"]


async def test_a_retry_and_the_reconciler_release_once_and_enter_once_in_both_orders(world: World) -> None:
    async with limited(world, 1, 2) as (other, ids):
        for here, there in ((world, other), (other, world)):
            (holder,) = await world.slots()
            await world.claim(world.hand, holder)
            await world.finish(world.hand, holder, "requested")
            first, second = await one_waits_for_the_other(
                here,
                partial(World.admit, entering=[holder]),
                there,
                partial(World.admit, ended=[holder], entering=[holder]),
            )
            assert [(row["released"], row["admitted"]) for row in (first, second)] == [(1, 1), (0, 0)]
        assert (await world.key())["waiting"] == 1
        assert set(await world.statuses(ids)) == {"scheduled", "requested"}


async def test_a_head_that_is_cancelled_twice_while_it_is_admitted_leaves_its_lane_once(world: World) -> None:
    async with limited(world, 1, 3) as (other, ids):
        await world.run(world.hand, ids[0])
        admitted, cancelled = await one_waits_for_the_other(
            world,
            lambda w: w.admit(ended=[ids[0]], decide={ids[1]: "cancelled"}),
            other,
            lambda w: w.admit(decide={ids[1]: "cancelled"}),
        )
        assert (admitted["decided"], cancelled["decided"]) == ([ids[1]], [])
        assert await world.statuses(ids) == ["completed", "cancelled", "scheduled"]
