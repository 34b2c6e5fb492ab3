"""Many lanes on one key: each call looks at a few of them, so all must be called in turn, and none may be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.world import request

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

JOB = "action:job"
SHARED = "shared"
LIMIT = 3
LOOKED_AT = 16
"""How many lanes a call looks at beyond those it has room for."""


_MOVE_ALL = """
WITH moved AS (
    UPDATE execution e
    SET status = $3::text::status, worker_id = $1, moves = e.moves + 1, started_at = coalesce(e.started_at, now()),
        finished_at = CASE WHEN is_terminal($3::text::status) THEN now() END
    FROM in_flight f WHERE e.id = f.execution_id AND e.status = $2::text::status RETURNING e.*
)
SELECT array_agg(id) AS ids,
       record_moves(array_agg(ROW(id, epoch, moves, $2, status, attempt, action, parent_id, pool, NULL, NULL,
                                  NULL, NULL, $1)::move), 'worker', '/worker/test') AS messages FROM moved
"""
"""What the worker $1 does with everything in flight, at once: from $2 to $3."""


async def customers(world: World, count: int, **fields: object) -> list[UUID]:
    """Request one execution for each of `count` customers, in flushes of 500."""
    ids: list[UUID] = []
    for start in range(0, count, 500):
        wanted = [request("visit", params={"customer": n}, **fields) for n in range(start, min(count, start + 500))]
        accepted = await world.accept(*wanted)
        assert all(answer.refused is None for answer in accepted.answers)
        ids += [answer.id for answer in accepted.answers if answer.id]
        await world.admit_on(accepted.more)
    return ids


async def visits(world: World, lim: int | None = LIMIT) -> int:
    """Register an action whose executions share one key and have one of their customer; return the shared key."""
    await world.register("visit", keys=[{"name": SHARED}, {"name": "customer/{{ params.customer }}", "limit": 1}])
    return await world.limit(SHARED, lim)


async def drained(world: World, chunk: int) -> tuple[int, int]:
    """End what is scheduled and follow `more` until nothing is; return how many ended, and in how many calls."""
    ended = calls = 0
    while await world.tx.fetchval(_MOVE_ALL, world.hand, "scheduled", "running"):
        ids = await world.tx.fetchval(_MOVE_ALL, world.hand, "running", "completed")
        row = await world.admit(ended=ids, chunk=chunk)
        ended += len(ids)
        calls += 1 + (await world.admit_on(row["more"], chunk=chunk) if row["more"] else 0)
    return ended, calls


async def test_a_thousand_customers_on_one_key_all_come_to_their_end(world: World) -> None:
    await visits(world)
    ids = await customers(world, 1000)
    assert await world.tx.fetchval("SELECT count(*) FROM lane WHERE parked_on IS NOT NULL") == 1000 - LIMIT
    ended, calls = await drained(world, chunk=2)
    assert ended == 1000
    # Three end at a time, and a chunk of two takes two calls to let three in.
    assert calls <= 2 * 1000 / LIMIT + 2
    assert await world.order() == ids
    assert await world.tx.fetchval("SELECT count(*) FROM queue WHERE owed OR active <> 0 OR waiting <> 0") == 0


async def test_lanes_of_several_are_each_first_in_first_out(world: World) -> None:
    await visits(world)
    rounds = [await customers(world, 40) for _ in range(5)]
    ended, _ = await drained(world, chunk=1)
    assert ended == 200
    order = await world.order()
    for lane in zip(*rounds, strict=True):
        assert sorted(lane, key=order.index) == list(lane)


async def test_opening_a_key_lets_all_its_lanes_go_in_order_in_as_many_calls_as_chunks(world: World) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1000")
    key = await visits(world, 0)
    ids = await customers(world, 300)
    await world.set_queue(SHARED, lim=None)
    calls, more = 0, [key]
    while more:
        row = await world.admit(keys=more, chunk=50)
        assert row["admitted"] <= 50
        more, calls = row["more"] or [], calls + 1
        await world.audit()
    assert calls in {6, 7}
    assert await world.order() == ids
    assert (await world.key(SHARED))["gated"] is False


async def test_who_comes_later_does_not_pass_lanes_that_nobody_has_looked_at(world: World) -> None:
    key = await visits(world, 0)
    waiting = await customers(world, 100)
    await world.set_queue(SHARED, lim=1000)
    # A first chunk leaves most of them parked on a key with room; a newcomer finds that room.
    assert (await world.admit(keys=[key], chunk=1))["admitted"] == 1
    (late,) = await world.submit(1, "visit", params={"customer": "new"})
    assert await world.statuses([late]) == ["requested"]
    await world.audit()
    await world.admit_on([key], chunk=10)
    assert await world.order() == [*waiting, late]


async def test_who_comes_free_of_another_key_does_not_pass_lanes_that_were_not_looked_at(world: World) -> None:
    other = await world.limit("other", 0)
    await world.register("late", keys=[{"name": "other"}, {"name": SHARED}])
    key = await visits(world, 0)
    waiting = await customers(world, LOOKED_AT + 4)
    (late,) = await world.submit(1, "late")
    assert await world.parked_on(late) == "other"
    # As many as a call with a chunk of one looks at cannot go: their customers are shut. The next one could.
    for n in range(LOOKED_AT + 1):
        await world.set_queue(f"customer/{n}", lim=0)
    await world.set_queue("other", lim=1)
    await world.set_queue(SHARED, lim=1)
    row = await world.admit(keys=[other, key], chunk=1)
    assert (row["admitted"], row["more"]) == (0, [key])
    await world.audit()
    await world.admit_on([key], chunk=1)
    assert await world.slots(SHARED) == {waiting[LOOKED_AT + 1]}
    assert await world.statuses([late]) == ["requested"]


async def test_equals_behind_the_last_that_was_looked_at_wait_and_the_more_urgent_do_not(world: World) -> None:
    key = await visits(world, 0)
    await customers(world, 100)
    await world.set_queue(SHARED, lim=1000)
    assert (await world.admit(keys=[key], chunk=1))["admitted"] == 1
    urgent, equal = [(await world.submit(1, "visit", params={"customer": f"p{n}"}, priority=n))[0] for n in (1, 0)]
    await world.admit(keys=[key], chunk=1)
    assert await world.statuses([urgent, equal]) == ["scheduled", "requested"]
    await world.admit_on([key], chunk=10)
    assert await world.statuses([urgent, equal]) == ["scheduled", "scheduled"]


async def test_what_a_call_could_not_lock_is_owed_and_nobody_passes_it(world: World) -> None:
    await world.register("two", keys=[{"name": "x"}, {"name": "y", "limit": 2}])
    await world.register("one", keys=[{"name": "y"}])
    await world.limit("x", 1)
    await world.limit("y", 0)
    (both,) = await world.submit(1, "two")
    assert await world.parked_on(both) == "y"
    await world.set_queue("y", lim=1)
    # An arrival locks the keys of its own lane only: not `x`, which the head needs.
    (late,) = await world.submit(1, "one")
    assert await world.statuses([both, late]) == ["requested", "requested"]
    assert (await world.key("y"))["owed"] is True
    await world.admit_on([(await world.key("y"))["id"]])
    assert await world.statuses([both, late]) == ["scheduled", "requested"]


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_lost_caller_is_made_up_for_by_whoever_looks_at_owed_keys(world: World, calls: int) -> None:
    key = await visits(world, 0)
    ids = await customers(world, 120)
    await world.set_queue(SHARED, lim=10)
    for _ in range(calls):  # and then its caller dies, before it has called at all or before it calls again
        await world.admit(keys=[key], chunk=4)
    while owed := await world.tx.fetch("SELECT id FROM queue WHERE owed"):
        await world.admit(keys=[row["id"] for row in owed], chunk=4)
    assert await world.slots(SHARED) == set(ids[:10])


async def test_a_lane_whose_customer_is_busy_makes_room_for_the_next_ones(world: World) -> None:
    await visits(world, None)
    busy = await customers(world, 50)
    await world.limit(SHARED, 50 + LIMIT)
    again = await customers(world, 50)
    (new,) = await world.submit(1, "visit", params={"customer": "new"})
    assert await world.statuses([*busy, new]) == ["scheduled"] * 51
    assert await world.statuses(again) == ["requested"] * 50
    assert {await world.parked_on(identity) for identity in again} == {f"customer/{n}" for n in range(50)}
    await world.end(busy[7])
    assert await world.statuses([again[7]]) == ["scheduled"]
