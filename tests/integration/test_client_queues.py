"""Keys and pools through the client: how they stand, and what a change does at once. `world` audits after each test."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from interlock.client import Client
from interlock.client.bounds import InvalidBounds
from interlock.client.polls import Resumed
from interlock.client.pools import UnknownPool
from interlock.client.queues import UnknownQueue
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from interlock.client.queue_records import PoolState, Queue
    from tests.world import World

JOB = "action:job"
CUSTOMER = {"name": "customer/{{ params.customer }}", "limit": 5}


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """A client on the stage."""
    async with Client.connect(world.url) as client:
        yield client


async def queue(client: Client, name: str = JOB) -> Queue:
    (found,) = await client.queues([name])
    return found


async def pool(client: Client, name: str = "default") -> PoolState:
    (found,) = await client.pools([name])
    return found


async def end(world: World, *ids: UUID) -> None:
    await world.run(world.hand, *ids)
    await world.admit(ended=ids)


async def test_a_key_shows_what_bounds_it_and_how_it_stands(world: World, client: Client) -> None:
    await world.set_queue(JOB, lim=2, cap=9, cap_policy="drop_oldest", rate_every=0.1, rate_burst=50)
    ids = await world.submit(5)
    await end(world, ids[0])
    await client.cancel([ids[4]])
    found = await queue(client)
    assert (found.scope, found.name, found.template) == ("leaf", JOB, None)
    assert (found.limit, found.rate, found.burst, found.cap, found.cap_policy) == (2, "10/s", 50, 9, "drop_oldest")
    assert (found.active, found.waiting, found.paused, found.wake_at) == (2, 1, False, None)
    assert (found.admitted, found.finished, found.cancelled) == (3, 1, 1)
    assert found.oldest_waiting == await world.tx.fetchval("SELECT since FROM waiting WHERE execution_id = $1", ids[3])


async def test_an_empty_key_has_nobody_who_waits_and_no_percentiles(world: World, client: Client) -> None:
    await world.limit(JOB, 2)
    found = await queue(client)
    assert (found.active, found.waiting, found.oldest_waiting) == (0, 0, None)
    assert (found.admitted, found.finished, found.cancelled) == (0, 0, 0)
    assert (found.wait_p50, found.wait_p95, found.wait_p99) == (None, None, None)
    assert (found.rate, found.burst) == (None, None)


async def test_the_oldest_waiter_is_the_first_of_all_lanes_and_priorities(world: World, client: Client) -> None:
    await world.limit(JOB, 0)
    (first,) = await world.submit(priority=-5)
    await world.submit(priority=5)
    await world.submit(2, concurrency_key="customer")
    since = await world.tx.fetchval("SELECT since FROM waiting WHERE execution_id = $1", first)
    assert (await queue(client)).oldest_waiting == since
    assert (await queue(client, "key:customer")).oldest_waiting > since
    assert (await pool(client)).oldest_waiting == since


async def test_only_the_last_hour_counts_for_percentiles_and_all_time_for_totals(world: World, client: Client) -> None:
    key = await world.limit(JOB, 1)
    now = datetime.now(UTC)
    rows = [
        ("-infinity", "admitted", 30, 1000),
        (now - timedelta(minutes=61), "admitted", 20, 1000),
        (now - timedelta(minutes=58), "admitted", 4, 90),
        (now, "admitted", 10, 9),
        (now, "admitted", 12, 1),
        (now, "finished", 0, 7),
        ("-infinity", "finished", 0, 70),
        ("-infinity", "cancelled", 0, 3),
    ]
    for minute, event, bucket, n in rows:
        await world.tx.execute(
            "INSERT INTO queue_minute VALUES ($1, $2::text::timestamptz, $3, $4, $5)",
            key,
            str(minute),
            event,
            bucket,
            n,
        )
    found = await queue(client)
    assert (found.admitted, found.finished, found.cancelled) == (2100, 77, 3)
    assert (found.wait_p50, found.wait_p95, found.wait_p99) == (0.016, 1.024, 1.024)


async def test_a_listing_leaves_out_what_bounds_nothing_and_nobody_has(world: World, client: Client) -> None:
    await world.submit(concurrency_key="idle")
    await world.set_queue("key:capped", cap=3)
    await world.set_queue("key:closed", lim=0)
    await world.set_queue("key:paused", paused=True)
    await world.set_queue("key:rated", rate_every=1)
    assert [each.name for each in await client.queues()] == ["key:capped", "key:closed", "key:paused", "key:rated"]
    assert [each.name for each in await client.queues(idle=True)] == [
        JOB,
        "key:capped",
        "key:closed",
        "key:idle",
        "key:paused",
        "key:rated",
    ]
    assert [each.name for each in await client.queues(["key:idle", JOB, JOB])] == [JOB, "key:idle"]


async def test_raising_a_limit_admits_all_it_lets_through_however_many(world: World, client: Client) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 5000")
    await world.limit(JOB, 1)
    ids = [identity for _ in range(3) for identity in await world.submit(500)]
    found = await client.limit(JOB, limit=1201)
    assert (found.limit, found.active, found.waiting) == (1201, 1201, 299)
    assert await world.statuses(ids) == ["scheduled"] * 1201 + ["requested"] * 299
    found = await client.limit(JOB, limit=None)
    assert (found.limit, found.active, found.waiting) == (None, 1500, 0)


async def test_lowering_a_limit_takes_nothing_back(world: World, client: Client) -> None:
    await world.limit(JOB, 3)
    ids = await world.submit(4)
    assert (await client.limit(JOB, limit=1)).active == 3
    assert await world.statuses(ids) == ["scheduled"] * 3 + ["requested"]


async def test_a_change_leaves_alone_what_it_does_not_name(world: World, client: Client) -> None:
    await client.limit(JOB, limit=3, rate="10/s", burst=4, cap=9, cap_policy="drop_oldest")
    found = await client.limit(JOB, limit=2)
    assert (found.limit, found.rate, found.burst, found.cap, found.cap_policy) == (2, "10/s", 4, 9, "drop_oldest")
    found = await client.limit(JOB, rate=None, cap=None)
    assert (found.limit, found.rate, found.burst, found.cap, found.cap_policy) == (2, None, None, None, "reject")
    assert (await world.key())["kept"] is True


async def test_bounds_that_cannot_be_change_nothing(world: World, client: Client) -> None:
    await client.limit(JOB, limit=3)
    with pytest.raises(InvalidBounds, match="give the rate, too"):
        await client.limit(JOB, limit=1, burst=3)
    assert (await queue(client)).limit == 3
    with pytest.raises(InvalidBounds):
        await client.limit("key:new", rate="often")
    with pytest.raises(UnknownQueue):
        await client.queues(["key:new"])
    await world.audit()


async def test_a_paused_key_admits_none_until_it_is_resumed(world: World, client: Client) -> None:
    (running,) = await world.submit()
    found = await client.pause(JOB)
    assert (found.paused, found.active) == (True, 1)  # counted from the pause on, so that it can drain
    late = await world.submit(2)
    assert await world.statuses([running, *late]) == ["scheduled", "requested", "requested"]
    found = await client.resume(JOB)
    assert (found.paused, found.active, found.waiting) == (False, 3, 0)


async def test_a_customer_can_be_limited_before_its_first_execution(world: World, client: Client) -> None:
    await world.register("bill", keys=[CUSTOMER])
    found = await client.limit("customer/42", limit=1)
    assert (found.limit, found.template) == (1, CUSTOMER["name"])
    ids = await world.submit(2, "bill", params={"customer": 42})
    assert await world.statuses(ids) == ["scheduled", "requested"]


async def test_pausing_a_customer_early_does_not_lift_its_limit(world: World, client: Client) -> None:
    await world.register("bill", keys=[CUSTOMER])
    found = await client.pause("customer/42")
    assert (found.paused, found.limit) == (True, 5)
    await client.resume("customer/42")
    ids = await world.submit(6, "bill", params={"customer": 42})
    assert await world.statuses(ids) == ["scheduled"] * 5 + ["requested"]


async def test_the_key_of_a_registered_action_or_of_a_request_can_be_bounded_early(
    world: World, client: Client
) -> None:
    await world.register("slow", limit=2)
    assert (await client.limit("action:slow", cap=5)).limit == 2
    assert (await client.limit("key:nightly", limit=1)).limit == 1
    assert (await client.limit("a lock of its own", limit=1)).template is None
    ids = await world.submit(2, concurrency_key="nightly")
    assert await world.statuses(ids) == ["scheduled", "requested"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("action:jbo", 'no queue is called "action:jbo"; did you mean "action:job"?'),
        ("job", 'no queue is called "job"; did you mean "action:job"?'),
        ("customer", 'no queue is called "customer"; did you mean "key:customer"?'),
        ("action:zebra-crossing", "`interlock queues show --all` lists them"),
    ],
)
async def test_a_name_that_no_execution_has_is_refused_with_the_nearest(
    world: World, client: Client, name: str, message: str
) -> None:
    await world.submit(concurrency_key="customer")
    with pytest.raises(UnknownQueue, match="no queue is called") as caught:
        await client.limit(name, limit=1)
    assert message in str(caught.value)
    for call in (client.pause(name), client.resume(name), client.queues([name]), client.drained(name)):
        with pytest.raises(UnknownQueue):
            await call
    assert await world.tx.fetchval("SELECT count(*) FROM queue WHERE name = $1", name) == 0


@pytest.mark.parametrize("name", ["batch:1", "", " ", "key:", "two\nlines", "x" * 256, "key:" + "x" * 256])
async def test_a_name_that_no_key_can_have_is_refused(world: World, client: Client, name: str) -> None:
    with pytest.raises(InvalidBounds):
        await client.limit(name, limit=1)
    assert await world.tx.fetchval("SELECT count(*) FROM queue") == 0


async def test_a_key_drains_as_its_holders_end(world: World, client: Client) -> None:
    ids = await world.submit(2)
    await client.pause(JOB)
    told: list[int] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        draining = group.create_task(client.drained(JOB, told.append))
        await eventually(lambda: told == [2])
        await end(world, ids[0])
        await eventually(lambda: told[-1] == 1)
        assert not draining.done()
        await end(world, ids[1])
    assert (told[0], told[-1]) == (2, 0)


async def test_what_is_resumed_while_it_drains_is_told(world: World, client: Client) -> None:
    await world.submit(2)
    await client.pause(JOB)
    told: list[int] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        draining = group.create_task(_outcome(client, told))
        await eventually(lambda: told)
        await client.resume(JOB)
    assert draining.result() == "action:job was resumed before it was empty; 2 left"


async def _outcome(client: Client, told: list[int]) -> str:
    with pytest.raises(Resumed) as caught:
        await client.drained(JOB, told.append)
    return str(caught.value)


async def test_a_pool_shows_its_workers_and_what_is_in_flight(world: World, client: Client) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 2")
    leaving = await world.worker(capacity=7)
    await world.tx.execute("UPDATE worker SET draining = true WHERE id = $1", leaving)
    await world.worker(capacity=50, lease=-1)
    ids = await world.submit(6)
    await world.claim(world.hand, *ids[:3])
    found = await pool(client)
    assert (found.workers, found.draining, found.capacity) == (1, 1, 2)
    assert (found.running, found.scheduled, found.in_flight, found.room) == (3, 1, 4, 0)
    assert (found.waiting, found.paused) == (2, False)


async def test_pools_are_those_that_somebody_named_or_serves(world: World, client: Client) -> None:
    await world.register("render", pool="gpu")
    await world.worker("cpu")
    await world.submit(pool="asked")
    assert [each.name for each in await client.pools()] == ["asked", "cpu", "default", "gpu"]
    with pytest.raises(UnknownPool) as caught:
        await client.pools(["defualt"])
    assert str(caught.value) == 'no pool is called "defualt"; did you mean "default"?'
    with pytest.raises(UnknownPool):
        await client.pause_pool("nobody")
    assert (await client.pause_pool("gpu")).paused is True


async def test_a_paused_pool_takes_back_what_no_worker_has_taken_and_goes_on_in_order(
    world: World, client: Client
) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 400")
    ids = [identity for _ in range(2) for identity in await world.submit(300)]
    await world.claim(world.hand, *ids[:3])
    found = await client.pause_pool("default")
    assert (found.paused, found.running, found.scheduled, found.room, found.waiting) == (True, 3, 0, 0, 597)
    assert await world.statuses(ids) == ["running"] * 3 + ["requested"] * 597
    reasons = await world.tx.fetch("SELECT DISTINCT reason FROM execution_transition WHERE target = 'requested'")
    assert {row["reason"] for row in reasons} == {"pool paused"}
    assert await world.statuses(await world.submit()) == ["requested"]

    before = await world.tx.fetchval("SELECT max(position) FROM execution_transition")
    found = await client.resume_pool("default")
    assert (found.paused, found.scheduled, found.waiting) == (False, 598, 0)
    again = await world.tx.fetch(
        "SELECT execution_id FROM execution_transition WHERE position > $1 AND target = 'scheduled' ORDER BY position",
        before,
    )
    assert [row["execution_id"] for row in again][:-1] == ids[3:]


async def test_pausing_a_pool_gives_back_the_slots_of_what_it_takes_back(world: World, client: Client) -> None:
    await world.register("render", pool="gpu")
    await world.limit("key:shared", 1)
    await world.worker("gpu", capacity=5)
    (taken,) = await world.submit(1, "render", concurrency_key="shared")
    (other,) = await world.submit(1, concurrency_key="shared")
    await client.pause_pool("gpu")
    assert await world.slots("key:shared") == {other}
    assert await world.statuses([taken]) == ["requested"]


async def test_a_pool_drains_as_what_runs_ends(world: World, client: Client) -> None:
    ids = await world.submit(2)
    await world.claim(world.hand, *ids)
    await client.pause_pool("default")
    told: list[int] = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(client.pool_drained("default", told.append))
        await eventually(lambda: told == [2])
        for identity in ids:
            await world.finish(world.hand, identity)
    assert (told[0], told[-1]) == (2, 0)
