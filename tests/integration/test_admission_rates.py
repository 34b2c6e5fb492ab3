"""Rates: what the cell rate algorithm lets through, to the token. Time is moved in the database, never waited for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.eventually import eventually
from tests.world import request

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

JOB = "action:job"
HOUR = 3600.0


async def rate(world: World, name: str = JOB, **changes: object) -> int:
    """Give a key a rate of one an hour, unless told otherwise, and admit what it lets through."""
    identity = await world.set_queue(name, **{"rate_every": HOUR, "rate_burst": 1, **changes})
    await world.admit_on([identity])
    return identity


async def later(world: World, seconds: float, name: str = JOB) -> int:
    """Let time go by and look at the key as the loop does; return how many were admitted."""
    await world.pass_time(name, seconds)
    return int((await world.admit(keys=[(await world.key(name))["id"]]))["admitted"])


async def seconds_to_wake(world: World, name: str = JOB) -> float | None:
    """Return in how many seconds a key is to be looked at again, to the nearest second; None for never."""
    wake = (await world.key(name))["wake_at"]
    return None if wake is None else round((wake - datetime.now(UTC)).total_seconds())


async def scheduled(world: World, ids: list[UUID]) -> int:
    return (await world.statuses(ids)).count("scheduled")


@pytest.mark.parametrize("burst", [1, 3, 10])
async def test_a_burst_goes_at_once_and_then_one_for_each_interval(world: World, burst: int) -> None:
    await rate(world, rate_burst=burst)
    ids = await world.submit(burst + 4)
    assert await scheduled(world, ids) == burst
    assert await later(world, 0) == 0
    assert await later(world, HOUR - 60) == 0
    assert await later(world, 60) == 1
    assert await later(world, 2 * HOUR) == min(2, burst)
    assert await world.order() == ids[: burst + 1 + min(2, burst)]


async def test_an_idle_key_saves_up_its_burst_and_no_more(world: World) -> None:
    await rate(world, rate_burst=3)
    assert await scheduled(world, await world.submit(3)) == 3
    await world.pass_time(JOB, 1000 * HOUR)
    assert await scheduled(world, await world.submit(5)) == 3


async def test_a_definition_s_rate_bounds_its_key_from_the_first_request_on(world: World) -> None:
    await world.register("call", rate="2/h", burst=2)
    ids = await world.submit(3, "call")
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested"]
    assert await seconds_to_wake(world, "action:call") == 1800
    assert await later(world, 1800, "action:call") == 1


@pytest.mark.parametrize("fast", ["1000000/s", "9999999/s", "9999999/ms"])
async def test_no_rate_that_a_definition_may_give_is_too_fast_for_the_database(world: World, fast: str) -> None:
    await world.register("fast", rate=fast)
    ids = [identity for _ in range(2) for identity in await world.submit(2, "fast")]
    await world.admit_on([(await world.key("action:fast"))["id"]])
    assert await scheduled(world, ids) == 4


async def test_one_call_after_a_long_time_admits_what_the_burst_allows_and_the_next_waits_a_whole_interval(
    world: World,
) -> None:
    await rate(world, rate_burst=2)
    ids = await world.submit(6)
    assert await later(world, 24 * HOUR) == 2
    assert await later(world, 0) == 0
    assert await seconds_to_wake(world) == HOUR
    assert await world.statuses(ids) == ["scheduled"] * 4 + ["requested"] * 2


async def test_a_token_is_taken_only_when_all_keys_are_open(world: World) -> None:
    await rate(world)
    await world.limit("key:shut", 0)
    (blocked,) = await world.submit(concurrency_key="shut")
    assert (await world.key())["tat"] is None
    (free,) = await world.submit(concurrency_key="open")
    assert await world.statuses([blocked, free]) == ["requested", "scheduled"]
    # Whoever opens the other key finds the token gone, and it goes with the next.
    await world.limit("key:shut", 1)
    assert await world.parked_on(blocked) == JOB
    assert await later(world, HOUR) == 1
    assert await world.slots("key:shut") == {blocked}


async def test_without_room_in_the_pool_no_token_is_taken(world: World) -> None:
    await rate(world)
    await world.limit("default", None, paused=True, scope="pool")
    (identity,) = await world.submit()
    assert ((await world.key())["tat"], await world.parked_on(identity)) == (None, "default")
    await world.limit("default", None, scope="pool")
    assert await world.statuses([identity]) == ["scheduled"]
    assert (await world.key())["tat"] is not None


async def test_arrivals_do_not_pass_waiters_when_a_token_has_come(world: World) -> None:
    await rate(world)
    await world.submit()
    first, second = await world.submit(2)
    await world.pass_time(JOB, HOUR)
    # Nobody has looked at the key since the token came: the arrivals find it, and it is not theirs.
    late = await world.submit(2)
    assert await world.statuses([first, second, *late]) == ["scheduled"] + ["requested"] * 3


async def test_arrivals_in_another_lane_do_not_pass_waiters_either(world: World) -> None:
    await rate(world)
    await world.submit()
    (first,) = await world.submit(concurrency_key="customer")
    await world.pass_time(JOB, HOUR)
    (late,) = await world.submit()
    assert await world.statuses([first, late]) == ["requested", "requested"]  # a lane that this flush did not lock
    await world.admit_on([(await world.key())["id"]])
    assert await world.statuses([first, late]) == ["scheduled", "requested"]


async def test_who_comes_free_of_another_key_does_not_take_the_token_of_those_who_waited_longer(world: World) -> None:
    await world.limit("key:busy", 1)
    await rate(world, rate_burst=2)
    await world.register("single")
    (holder,) = await world.submit(1, "single", concurrency_key="busy")
    await world.submit(2)
    (first,) = await world.submit()
    (second,) = await world.submit(concurrency_key="busy")
    assert (await world.parked_on(first), await world.parked_on(second)) == (JOB, "key:busy")
    await world.pass_time(JOB, HOUR)
    # The end is about the busy key; that a token came to the other one is found on the way.
    row = await world.end(holder)
    assert (row["admitted"], await world.statuses([first, second])) == (1, ["scheduled", "requested"])


async def test_a_higher_priority_gets_the_next_token(world: World) -> None:
    await rate(world)
    await world.submit()
    low = await world.submit(2)
    (high,) = await world.submit(priority=5)
    assert await later(world, HOUR) == 1
    assert await world.statuses([*low, high]) == ["requested", "requested", "scheduled"]


async def test_a_key_is_to_be_looked_at_again_exactly_while_somebody_waits_for_a_token(world: World) -> None:
    key = await rate(world)
    assert await seconds_to_wake(world) is None
    (running,) = await world.submit()
    assert await seconds_to_wake(world) is None  # no token, but nobody waits either
    (waiting,) = await world.submit()
    assert await seconds_to_wake(world) == HOUR
    await world.end(running)
    assert await seconds_to_wake(world) == HOUR  # what ended gives no token back
    await world.set_queue(JOB, paused=True)
    await world.admit_on([key])
    assert await seconds_to_wake(world) is None  # nothing to look for while it is paused
    await world.set_queue(JOB, paused=False)
    await world.admit_on([key])
    assert await seconds_to_wake(world) == HOUR
    await world.admit(decide={waiting: "cancelled"})
    assert await seconds_to_wake(world) is None


@pytest.mark.parametrize("burst", [1, 4])
async def test_a_key_is_looked_at_when_the_next_token_comes_and_not_before(world: World, burst: int) -> None:
    await rate(world, rate_burst=burst)
    await world.submit(burst + 1)
    exact = "SELECT wake_at = to_timestamp(tat - ($2 - 1) * rate_every) FROM queue WHERE name = $1"
    assert await world.tx.fetchval(exact, JOB, burst) is True


async def test_with_tokens_left_a_key_is_not_looked_at_by_time(world: World) -> None:
    await rate(world, lim=1, rate_burst=5)
    ids = await world.submit(3)
    assert await scheduled(world, ids) == 1
    assert await seconds_to_wake(world) is None  # the slot is missing, not the token


async def test_a_closed_key_is_not_looked_at_by_time(world: World) -> None:
    key = await rate(world)
    await world.submit(2)
    await world.set_queue(JOB, lim=0)
    await world.admit_on([key])
    assert await seconds_to_wake(world) is None


async def test_a_rate_and_a_limit_hold_together(world: World) -> None:
    await rate(world, lim=2, rate_burst=3)
    ids = await world.submit(6)
    assert await scheduled(world, ids) == 2  # the limit
    assert (await world.end(ids[0]))["admitted"] == 1  # the third token of the burst
    assert (await world.end(ids[1]))["admitted"] == 0  # a slot, but no token
    assert await seconds_to_wake(world) == HOUR
    assert await later(world, HOUR) == 1
    assert await later(world, HOUR) == 0  # a token, but no slot
    assert await seconds_to_wake(world) is None
    assert (await world.end(ids[2]))["admitted"] == 1
    assert await world.slots() == set(ids[3:5])


async def test_two_rates_take_a_token_each(world: World) -> None:
    await rate(world)
    await rate(world, "key:customer", rate_burst=2)
    ids = await world.submit(3, concurrency_key="customer")
    assert await scheduled(world, ids) == 1
    assert await later(world, HOUR) == 1
    await world.pass_time("key:customer", -HOUR / 2)  # both tokens of the customer's burst are out for longer
    assert await later(world, HOUR) == 0
    assert await world.parked_on(ids[2]) == "key:customer"
    assert await later(world, 2 * HOUR, "key:customer") == 1


@pytest.mark.parametrize(
    ("change", "admitted", "wake"),
    [
        ({"rate_every": 60.0}, 1, 60),  # another pace begins anew, with its burst
        ({"rate_every": 60.0, "rate_burst": 3}, 3, None),
        ({"rate_burst": 2}, 1, HOUR),  # what was let through still counts
        ({"rate_every": None}, 3, None),
        ({"rate_every": HOUR}, 0, HOUR),
    ],
)
async def test_a_change_of_the_rate_holds_at_once(
    world: World, change: dict[str, object], admitted: int, wake: float | None
) -> None:
    await rate(world)
    ids = await world.submit(4)
    key = await world.set_queue(JOB, **change)
    await world.admit_on([key])
    assert await scheduled(world, ids) == 1 + admitted
    assert await seconds_to_wake(world) == wake
    assert (await world.key())["gated"] is (change.get("rate_every", HOUR) is not None)


async def test_a_first_rate_counts_nobody_who_went_before_and_gives_them_slots(world: World) -> None:
    running = await world.submit(3)
    await rate(world)
    assert await world.slots() == set(running)
    ids = await world.submit(2)
    assert await scheduled(world, ids) == 1


async def test_what_comes_back_to_its_lane_takes_a_token_again(world: World) -> None:
    await rate(world, rate_burst=2)
    (identity,) = await world.submit()
    await world.admit(decide={identity: "requested"})
    assert await world.statuses([identity]) == ["scheduled"]  # the second token
    await world.claim(world.hand, identity)
    await world.finish(world.hand, identity, "requested")
    assert (await world.admit(entering=[identity]))["admitted"] == 0
    assert await later(world, HOUR) == 1


async def test_of_one_flush_as_many_go_as_there_are_tokens_by_priority_and_then_arrival(world: World) -> None:
    await rate(world, rate_burst=3)
    wanted = [request(priority=priority) for priority in (0, 0, 5, 0, 5)]
    answers = (await world.accept(*wanted)).answers
    ids = [answer.id for answer in answers if answer.id]
    assert await world.statuses(ids) == ["scheduled", "requested", "scheduled", "requested", "scheduled"]


async def admit_behind_a_lock(world: World, holder: World, watcher: World, keys: list[int]) -> None:
    """Admit on `keys` while `holder` has a row of what is to be admitted, until the rate of `keys[-1]` has a token."""
    came = "SELECT extract(epoch FROM clock_timestamp()) > tat FROM queue WHERE id = $1"
    async with asyncio.TaskGroup() as group:
        group.create_task(world.admit(keys=keys))
        await eventually(lambda: holder.is_blocking(world))
        await eventually(lambda: watcher.tx.fetchval(came, keys[-1]))
        await holder.tx.execute("COMMIT")


async def test_a_token_that_comes_while_an_admission_is_under_way_is_looked_for_again(world: World) -> None:
    await world.register("other")
    slow = await rate(world, "action:other", rate_every=2.0)
    key = await world.set_limit(JOB, 0)
    (blocker,) = await world.submit()
    await world.set_limit(JOB, 1)
    _, waiting = await world.submit(2, "other")
    async with world.another() as holder, world.another() as watcher:
        await holder.tx.execute("BEGIN")
        await holder.tx.execute("SELECT 1 FROM execution WHERE id = $1 FOR UPDATE", blocker)
        await admit_behind_a_lock(world, holder, watcher, [key, slow])
    assert await world.statuses([blocker, waiting]) == ["scheduled", "requested"]
    found = await world.key("action:other")
    assert found["wake_at"] is not None or found["owed"]


async def test_what_a_claim_kept_of_a_rate_is_shared_out_when_its_head_has_gone(world: World) -> None:
    await world.register("single")
    await world.limit(JOB, 1)
    await rate(world, "key:k", rate_burst=3)
    await world.submit(3, "single", concurrency_key="k")
    (holder,) = await world.submit()
    (head,) = await world.submit(concurrency_key="k")
    waiting = await world.submit(2, "single", concurrency_key="k")
    await world.submit()
    await world.tx.execute("UPDATE lane SET skips = 1 FROM execution e WHERE e.id = $1 AND lane.id = e.lane_id", head)
    await world.end(holder)  # a slot, but no token: passed over for the second time
    assert await later(world, HOUR, "key:k") == 0  # a token, but no slot: for the third time, so it claims both
    assert (await world.key("key:k"))["claim_lane"] is not None
    await world.pass_time("key:k", HOUR)  # of two tokens it needs one
    row = await world.end(*await world.slots())
    await world.admit_on(row["more"] or [])
    assert await world.statuses([head, *waiting]) == ["scheduled", "scheduled", "requested"]
