"""Pools, chunks and lanes of several keys: everything that waits is parked where somebody will call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.world import World

JOB = "action:job"


async def test_without_a_worker_everything_waits_for_the_pool(world: World) -> None:
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second'")
    ids = await world.submit(3)
    assert await world.statuses(ids) == ["requested"] * 3
    assert await world.parked_on(ids[0]) == "default"
    await world.worker(capacity=1)
    pool = await world.key("default", "pool")
    assert (await world.admit(keys=[pool["id"]]))["admitted"] == 2  # twice its capacity
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested"]


async def test_a_paused_pool_admits_none_and_its_waiters_go_on_in_order(world: World) -> None:
    await world.limit("default", None, paused=True, scope="pool")
    ids = await world.submit(3)
    assert await world.statuses(ids) == ["requested"] * 3
    await world.limit("default", None, scope="pool")
    assert await world.statuses(ids) == ["scheduled"] * 3
    assert (await world.key("default", "pool"))["gated"] is False


async def test_a_draining_worker_gives_its_pool_no_room(world: World) -> None:
    await world.tx.execute("UPDATE worker SET draining = true")
    assert await world.statuses(await world.submit()) == ["requested"]


async def test_the_window_counts_what_is_in_flight_and_opens_when_it_ends(world: World) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1")
    ids = await world.submit(3)
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested"]
    await world.run(world.hand, ids[0])
    row = await world.admit(ended=[ids[0]])
    assert (row["released"], row["admitted"]) == (0, 1)  # no limit, so no slot


async def test_a_chunk_is_never_exceeded_and_what_is_left_is_owed(world: World) -> None:
    await world.limit(JOB, 0)
    ids = await world.submit(7)
    key = await world.set_limit(JOB, 10)
    first = await world.admit(keys=[key], chunk=3)
    assert (first["admitted"], first["more"]) == (3, [key])
    assert (await world.key())["owed"] is True
    await world.audit()
    second = await world.admit(keys=first["more"], chunk=3)
    third = await world.admit(keys=second["more"], chunk=3)
    assert (third["admitted"], third["more"]) == (1, None)
    assert await world.statuses(ids) == ["scheduled"] * 7


async def test_arrivals_never_pass_those_whom_an_owed_key_still_owes(world: World) -> None:
    await world.limit(JOB, 0)
    waiting = await world.submit(4)
    await world.set_limit(JOB, 4)
    late = await world.submit(2)  # somebody comes before the caller of set_limit goes on
    await world.admit_on([(await world.key())["id"]])
    assert await world.statuses([*waiting, *late]) == ["scheduled"] * 4 + ["requested"] * 2


async def test_arrivals_of_a_shorter_lane_do_not_pass_a_longer_one_on_an_owed_key(world: World) -> None:
    await world.limit(JOB, 0)
    (waiting,) = await world.submit(concurrency_key="customer")
    await world.set_limit(JOB, 1)
    (late,) = await world.submit()
    await world.admit_on([(await world.key())["id"]])
    assert await world.statuses([waiting, late]) == ["scheduled", "requested"]


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ({JOB}, JOB),
        ({"key:customer"}, "key:customer"),
        ({"default"}, "default"),
        ({JOB, "default"}, JOB),
        ({"key:customer", "default"}, "key:customer"),
    ],
)
async def test_a_lane_of_several_keys_is_parked_on_the_one_that_blocks_it_and_on_the_pool_last(
    world: World, full: set[str], expected: str
) -> None:
    for name in full:
        await world.limit(name, 0, paused=True, scope="pool" if name == "default" else "leaf")
    (identity,) = await world.submit(concurrency_key="customer")
    assert await world.statuses([identity]) == ["requested"]
    assert await world.parked_on(identity) == expected
    for name in full - {expected}:
        await world.limit(name, None, scope="pool" if name == "default" else "leaf")
    await world.limit(expected, None, scope="pool" if expected == "default" else "leaf")
    assert await world.statuses([identity]) == ["scheduled"]


async def test_a_lane_moves_from_key_to_key_until_all_have_room(world: World) -> None:
    await world.limit(JOB, 0)
    await world.limit("key:customer", 0)
    (identity,) = await world.submit(concurrency_key="customer")
    first = await world.parked_on(identity)
    assert first is not None
    (other,) = {JOB, "key:customer"} - {first}
    await world.limit(first, 1)
    assert await world.parked_on(identity) == other
    await world.limit(other, 1)
    assert await world.statuses([identity]) == ["scheduled"]
    assert [await world.slots(JOB), await world.slots("key:customer")] == [{identity}, {identity}]


async def test_a_blocked_customer_does_not_hold_up_another(world: World) -> None:
    await world.limit("key:slow", 0)
    await world.limit(JOB, 2)
    slow = await world.submit(5, concurrency_key="slow")
    fast = await world.submit(3, concurrency_key="fast")
    assert await world.statuses(slow) == ["requested"] * 5
    assert await world.statuses(fast) == ["scheduled", "scheduled", "requested"]
