"""Why an execution is where it is: each reason, with its facts. `world` audits after every test."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.client import Client
from interlock.client.explain import Unexplained
from interlock.client.ids import UnknownId
from interlock.client.queue_records import Count, Reason
from interlock.contract.status import Status
from tests.factory import PATHS, make_execution
from tests.world import fresh_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from interlock.client.queue_records import Explanation
    from tests.world import World

JOB = "action:job"


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """A client on the stage."""
    async with Client.connect(world.url) as client:
        yield client


def told(found: Explanation) -> tuple[Reason, Status, str]:
    return found.reason, found.status, found.sentence


async def test_who_waits_for_a_slot_is_told_its_place_and_who_holds_them(world: World, client: Client) -> None:
    await world.limit(JOB, 2)
    ids = await world.submit(5)
    await world.claim(world.hand, ids[0])
    found = await client.explain(ids[4])
    sentence = "waits for a slot of action:job, 2 of 2 taken, behind 2 others"
    assert told(found) == (Reason.SLOTS, Status.REQUESTED, sentence)
    assert (found.id, found.action, found.position, found.ahead) == (ids[4], "job", Count(count=3), Count(count=2))
    assert found.key is not None
    assert (found.key.scope, found.key.name, found.key.limit, found.key.active) == ("leaf", JOB, 2, 2)
    assert found.since == await world.tx.fetchval("SELECT since FROM waiting WHERE execution_id = $1", ids[4])

    running, scheduled = sorted(found.holders, key=lambda holder: ids.index(holder.id))
    lease = await world.tx.fetchval("SELECT lease_expires_at FROM worker")
    since = await world.tx.fetchval("SELECT since FROM slot WHERE execution_id = $1", ids[0])
    assert (running.id, running.action, running.status, running.since) == (ids[0], "job", Status.RUNNING, since)
    assert (running.worker_id, running.lease_until) == (world.hand, lease)
    assert (scheduled.status, scheduled.worker_id, scheduled.lease_until) == (Status.SCHEDULED, None, None)
    assert found.holders_total == 2
    assert (found.until, found.pool, found.first, found.worker_id) == (None, None, None, None)


async def test_the_first_in_its_lane_is_behind_nobody_and_the_second_behind_one(world: World, client: Client) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(3)
    assert (await client.explain(ids[1])).sentence == "waits for a slot of action:job, 1 of 1 taken"
    assert (await client.explain(ids[2])).sentence.endswith(", behind 1 other")


async def test_at_most_twenty_holders_are_shown_the_oldest_first(world: World, client: Client) -> None:
    await world.limit(JOB, 25)
    early, late = await world.submit(15), await world.submit(11)
    found = await client.explain(late[-1])
    assert (len(found.holders), found.holders_total) == (20, 25)
    assert {holder.id for holder in found.holders[:15]} == set(early)


async def test_others_of_the_same_key_go_first_by_priority_and_then_by_entering(world: World, client: Client) -> None:
    await world.limit(JOB, 0)
    await world.submit(3, priority=-1)
    await world.submit(2)
    customer = await world.submit(4, concurrency_key="customer")
    await world.submit(5)
    await world.submit(7, priority=1)
    found = await client.explain(customer[2])
    # Seven of the higher priority, two that came before, and the two before it in its own lane.
    assert (found.position, found.ahead) == (Count(count=3), Count(count=11))


async def test_what_waits_for_another_key_is_not_ahead(world: World, client: Client) -> None:
    await world.limit(JOB, 1)
    await world.limit("key:customer", 0)
    blocked = await world.submit(5, concurrency_key="customer")
    waiting = await world.submit(2)
    assert (await client.explain(waiting[1])).ahead == Count(count=0)
    found = await client.explain(blocked[1])
    assert (found.reason, found.key and found.key.name) == (Reason.CLOSED, "key:customer")
    assert found.also_full == (JOB,)


async def test_keys_that_are_full_as_well_are_named(world: World, client: Client) -> None:
    await world.limit(JOB, 1)
    for name in ("key:customer", "disk"):
        await world.limit(name, None, paused=True)
    await world.register("copy", keys=[{"name": "disk"}])
    await world.submit()
    (job,) = await world.submit(concurrency_key="customer")
    (copy,) = await world.submit(1, "copy", concurrency_key="customer")
    for identity, names in ((job, [JOB, "key:customer"]), (copy, ["disk", "key:customer"])):
        found = await client.explain(identity)
        assert found.key is not None
        assert sorted((found.key.name, *found.also_full)) == names


async def test_counting_ends_at_ten_thousand(world: World, client: Client) -> None:
    await world.limit(JOB, 0)
    ids = [identity for _ in range(21) for identity in await world.submit(500)]
    other = await world.submit(1, concurrency_key="customer")
    found = await client.explain(ids[10_000])
    assert (found.position, found.ahead) == (Count(count=10_000, more=True), Count(count=10_000))
    found = await client.explain(ids[-1])
    assert (found.position, found.ahead) == (Count(count=10_000, more=True), Count(count=10_000, more=True))
    assert found.sentence.endswith(", behind more than 10000 others")
    assert (await client.explain(other[0])).ahead == Count(count=10_000, more=True)
    await world.limit("default", None, paused=True, scope="pool")
    await world.limit(JOB, None)
    assert (await client.explain(ids[-1])).ahead == Count(count=10_000, more=True)
    found = await client.explain(other[0])  # the first turn of its lane
    assert (found.reason, found.position, found.ahead) == (Reason.POOL_PAUSED, Count(count=1), Count(count=1))


async def test_a_closed_key_and_a_paused_one_are_told_apart(world: World, client: Client) -> None:
    await world.limit(JOB, 0)
    (identity,) = await world.submit()
    assert told(await client.explain(identity))[::2] == (Reason.CLOSED, "action:job is closed: its limit is 0")
    await world.limit(JOB, 0, paused=True)
    sentence = "action:job is paused: `interlock queues resume action:job` lets it go on"
    assert told(await client.explain(identity))[::2] == (Reason.KEY_PAUSED, sentence)


async def test_a_lowered_limit_that_drains_tells_both_numbers(world: World, client: Client) -> None:
    await world.limit(JOB, 3)
    ids = await world.submit(4)
    await world.limit(JOB, 1)
    found = await client.explain(ids[3])
    assert told(found)[::2] == (Reason.SLOTS, "waits for a slot of action:job, 3 of 1 taken")
    assert found.holders_total == 3


async def test_a_rate_tells_when_it_lets_the_next_one_go(world: World, client: Client) -> None:
    await world.set_queue(JOB, rate_every=60, rate_burst=1)
    ids = await world.submit(3)
    wake_at = (await world.key())["wake_at"]
    found = await client.explain(ids[2])
    sentence = f"the rate of action:job, 1/m, lets the next one go at {wake_at:%Y-%m-%d %H:%M:%S} UTC, behind 1 other"
    assert told(found)[::2] == (Reason.RATE_LIMITED, sentence)
    assert (found.until, found.key and found.key.rate) == (wake_at, "1/m")
    assert found.holders_total == 1


async def test_a_rate_whose_time_has_come_owes_an_admission(world: World, client: Client) -> None:
    await world.set_queue(JOB, rate_every=60, rate_burst=1)
    ids = await world.submit(2)
    await world.pass_time(JOB, 61)
    found = await client.explain(ids[1])
    assert told(found)[::2] == (Reason.OWED, "action:job has room: an executor admits at once")
    assert found.until is None


async def test_an_owed_key_will_admit_at_once(world: World, client: Client) -> None:
    await world.limit(JOB, 0)
    ids = await world.submit(2)
    key = await world.set_limit(JOB, 1)
    found = await client.explain(ids[1])
    assert told(found)[::2] == (Reason.OWED, "action:job has room: an executor admits at once, behind 1 other")
    await world.admit_on([key])


async def test_room_that_a_claim_keeps_is_told_with_whom_it_is_for(world: World, client: Client) -> None:
    await world.register("both", keys=[{"name": "a"}, {"name": "b"}])
    queues: dict[str, list[UUID]] = {}
    for name in ("a", "b"):
        await world.register(f"only-{name}", keys=[{"name": name}])
        await world.limit(name, 1)
        queues[name] = await world.submit(1, f"only-{name}")
    (head,) = await world.submit(1, "both")
    for name in ("a", "b"):
        queues[name] += await world.submit(9, f"only-{name}")
    for name in ("a", "b", "a"):
        await world.end(queues[name].pop(0))
    assert (await world.key("a"))["claim_lane"] is not None
    found = await client.explain(queues["a"][0])
    sentence = "the room that a has is kept for one that needs several keys and goes first"
    assert told(found)[::2] == (Reason.RESERVED, sentence)
    assert (found.first, found.ahead) == (head, Count(count=0))
    # The head itself waits for the slot that it does not have.
    found = await client.explain(head)
    assert (found.reason, found.key and found.key.name, found.first) == (Reason.SLOTS, "b", None)
    # A claim that can lead nowhere keeps nothing.
    await world.set_queue("b", paused=True)
    assert (await client.explain(queues["a"][0])).reason is Reason.OWED
    await world.admit_on([(await world.key("a"))["id"], (await world.key("b"))["id"]])


async def test_a_busy_pool_tells_its_figures_and_whose_turn_comes_first(world: World, client: Client) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1")
    await world.register("short")
    long = await world.submit(12)
    short = await world.submit(3, "short")
    await world.claim(world.hand, long[0])
    found = await client.explain(long[11])
    sentence = "pool default is busy: 2 are in flight, 1 run at once, behind 12 others"
    assert told(found)[::2] == (Reason.POOL_BUSY, sentence)
    assert found.pool is not None
    assert (found.pool.workers, found.pool.capacity, found.pool.running, found.pool.scheduled) == (1, 1, 1, 1)
    assert (found.key, found.holders) == (None, ())
    # Lanes take turns: nine of the long lane and two of the short one are not before its third.
    found = await client.explain(short[2])
    order = [identity for pair in zip(long[2:5], short, strict=True) for identity in pair]
    assert (found.position, found.ahead) == (Count(count=3), Count(count=order.index(short[2])))
    assert (await client.explain(long[4])).ahead == Count(count=order.index(long[4]))
    (urgent,) = await world.submit(1, priority=1)
    assert (await client.explain(urgent)).ahead == Count(count=0)
    assert (await client.explain(short[2])).ahead == Count(count=order.index(short[2]) + 1)


async def test_what_a_pool_tells_is_the_order_in_which_it_admits(world: World, client: Client) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1")
    for name in ("b", "c"):
        await world.register(name)
    first = await world.submit(8)
    waiting = [*first[2:], *await world.submit(3, "b"), *await world.submit(1, "c", priority=2)]
    flying = first[:2]
    while waiting:
        ahead = [(await client.explain(identity)).ahead for identity in waiting]
        assert sorted(each.count for each in ahead if each) == list(range(len(waiting)))
        nearest = waiting[ahead.index(Count(count=0))]
        await world.end(flying.pop(0))
        assert (await world.order())[-1] == nearest
        waiting.remove(nearest)
        flying.append(nearest)


async def test_a_paused_pool_one_without_a_worker_and_one_that_drains_are_told_apart(
    world: World, client: Client
) -> None:
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second'")
    (identity,) = await world.submit()
    sentence = "pool default has no live worker: start one with INTERLOCK_POOL=default"
    assert told(await client.explain(identity))[::2] == (Reason.NO_WORKER, sentence)
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() + interval '1 minute', draining = true")
    sentence = "pool default has only workers that drain (1): start one with INTERLOCK_POOL=default"
    assert told(await client.explain(identity))[::2] == (Reason.NO_WORKER, sentence)
    await world.limit("default", None, paused=True, scope="pool")
    sentence = "pool default is paused: `interlock pools resume default` lets it go on"
    assert told(await client.explain(identity))[::2] == (Reason.POOL_PAUSED, sentence)
    await world.tx.execute("UPDATE worker SET draining = false")
    await world.set_queue("default", "pool", paused=False)
    sentence = "pool default has room: an executor admits at once"
    assert told(await client.explain(identity))[::2] == (Reason.OWED, sentence)


async def test_a_time_to_come_and_a_retry_are_told_apart(world: World, client: Client) -> None:
    soon = await world.tx.fetchval("SELECT now() + interval '1 hour'")
    later, failed = (await world.submit(1, not_before=soon.isoformat()))[0], (await world.submit())[0]
    found = await client.explain(later)
    assert told(found)[::2] == (Reason.NOT_BEFORE, f"waits for its time, {soon:%Y-%m-%d %H:%M:%S} UTC")
    assert (found.until, found.position, found.key) == (soon, None, None)

    await world.claim(world.hand, failed)
    await world.finish(world.hand, failed, "requested", delay=30)
    due = await world.tx.fetchval("SELECT not_before FROM execution WHERE id = $1", failed)
    found = await client.explain(failed)
    sentence = f"failed once, and is tried again at {due:%Y-%m-%d %H:%M:%S} UTC"
    assert (told(found)[::2], found.until, found.since) == ((Reason.RETRY, sentence), due, due - timedelta(seconds=30))


async def test_what_is_due_will_be_entered_at_once(world: World, client: Client) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    await world.finish(world.hand, identity, "requested")
    found = await client.explain(identity)
    sentence = "its time has come: an executor enters it into its lane at once"
    assert (told(found)[::2], found.until) == ((Reason.ENTERING, sentence), None)


async def test_what_a_person_paused_waits_for_a_person(world: World, client: Client) -> None:
    soon = await world.tx.fetchval("SELECT now() + interval '1 hour'")
    (identity,) = await world.submit(1, not_before=soon.isoformat())
    await world.tx.execute("UPDATE execution SET paused_at = now()")
    paused_at = await world.tx.fetchval("SELECT paused_at FROM execution")
    found = await client.explain(identity)
    assert told(found) == (Reason.PAUSED, Status.REQUESTED, "paused until somebody resumes it")
    assert found.since == paused_at


async def test_what_is_dispatched_waits_for_a_worker_and_what_runs_has_one(world: World, client: Client) -> None:
    (identity,) = await world.submit()
    found = await client.explain(identity)
    sentence = "dispatched: waits for a worker of pool default to take it"
    assert told(found) == (Reason.SCHEDULED, Status.SCHEDULED, sentence)
    assert found.pool is not None
    assert (found.pool.name, found.pool.workers, found.pool.scheduled) == ("default", 1, 1)
    assert found.since == await world.tx.fetchval("SELECT since FROM in_flight")

    await world.claim(world.hand, identity)
    found = await client.explain(identity)
    lease = await world.tx.fetchval("SELECT lease_expires_at FROM worker")
    sentence = f"attempt 1 runs on worker {world.hand}; the lease is live"
    assert told(found) == (Reason.RUNNING, Status.RUNNING, sentence)
    assert (found.worker_id, found.until) == (world.hand, lease)
    assert found.since == await world.tx.fetchval("SELECT started_at FROM execution")

    await client.cancel([identity], "enough")
    found = await client.explain(identity)
    sentence = f"was told to stop (enough), and worker {world.hand} has not ended it yet; the lease is live"
    assert told(found) == (Reason.CANCELLING, Status.CANCELLING, sentence)
    await world.finish(world.hand, identity, "cancelled", "cancelling")
    found = await client.explain(identity)
    assert told(found) == (Reason.ENDED, Status.CANCELLED, "ended as cancelled: enough")
    assert found.since == await world.tx.fetchval("SELECT finished_at FROM execution")


async def test_a_lease_that_ended_and_a_pool_that_lost_its_workers_are_told(world: World, client: Client) -> None:
    ids = await world.submit(2)
    await world.claim(world.hand, ids[0])
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second'")
    lease = await world.tx.fetchval("SELECT lease_expires_at FROM worker")
    found = await client.explain(ids[0])
    assert found.sentence.endswith(f"the lease ended at {lease:%Y-%m-%d %H:%M:%S} UTC, executors move it on")
    found = await client.explain(ids[1])
    sentence = "dispatched to pool default, which has no live worker; it will wait again"
    assert told(found) == (Reason.NO_WORKER, Status.SCHEDULED, sentence)


async def test_a_refused_request_tells_why_it_failed(world: World, client: Client) -> None:
    (answer,) = (await world.accept({"id": str(fresh_id()), "action": "jbo"})).answers
    assert answer.id is not None
    found = await client.explain(answer.id)
    assert found.reason is Reason.ENDED
    assert found.sentence.startswith("ended as failed: action 'jbo' is not registered")


async def test_an_id_that_nobody_has_is_told(client: Client) -> None:
    with pytest.raises(UnknownId):
        await client.explain(fresh_id())


@pytest.mark.parametrize("status", PATHS)
async def test_every_status_has_a_reason(database_url: str, status: Status) -> None:
    connection = await asyncpg.connect(database_url)
    identity = await make_execution(connection, status=status)
    await connection.close()
    async with Client.connect(database_url) as client:
        found = await client.explain(identity)
    assert (found.status, bool(found.sentence)) == (status, True)


@pytest.mark.parametrize(
    ("status", "harm"),
    [
        (Status.REQUESTED, "DELETE FROM timer"),
        (Status.SCHEDULED, "DELETE FROM in_flight"),
        (Status.RUNNING, "DELETE FROM in_flight"),
        (Status.RUNNING, "DELETE FROM worker"),
        (Status.CANCELLING, "UPDATE worker SET ended_at = now()"),
    ],
)
async def test_what_nothing_holds_and_nothing_moves_is_a_case_for_the_doctor(
    database_url: str, status: Status, harm: str
) -> None:
    connection = await asyncpg.connect(database_url)
    identity = await make_execution(connection, status=status)
    await connection.execute(harm)
    await connection.close()
    async with Client.connect(database_url) as client:
        with pytest.raises(Unexplained, match="run `interlock doctor`"):
            await client.explain(identity)


@pytest.mark.parametrize(
    ("name", "scope", "harm"),
    [
        (JOB, "leaf", "UPDATE queue SET lim = 5 WHERE name = 'action:job'"),
        ("default", "pool", "UPDATE queue SET paused = false, gated = false WHERE name = 'default'"),
        (JOB, "leaf", "UPDATE lane SET parked_on = NULL, head_seq = NULL"),
    ],
)
async def test_a_lane_that_waits_for_what_has_room_is_a_case_for_the_doctor(
    world: World, client: Client, name: str, scope: str, harm: str
) -> None:
    await world.limit(name, 0, paused=scope == "pool", scope=scope)
    (identity,) = await world.submit()
    await world.tx.execute(harm)
    with pytest.raises(Unexplained, match="run `interlock doctor`"):
        await client.explain(identity)
    await world.empty()
