"""Admission: limits are exact, order is kept, nothing is forgotten. The `world` fixture audits after every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.world import request

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

JOB = "action:job"


async def test_a_limit_admits_as_many_as_it_says_and_the_rest_in_the_order_of_arrival(world: World) -> None:
    await world.limit(JOB, 2)
    ids = await world.submit(5)
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested", "requested", "requested"]
    await world.run(world.hand, ids[0])
    row = await world.admit(ended=[ids[0]])
    assert (row["released"], row["admitted"], row["more"]) == (1, 1, None)
    assert await world.statuses(ids) == ["completed", "scheduled", "scheduled", "requested", "requested"]
    assert await world.slots() == {ids[1], ids[2]}


async def test_arrivals_queue_behind_those_that_wait(world: World) -> None:
    await world.limit(JOB, 1)
    running, first = await world.submit(2)
    second, third = await world.submit(2)
    for ended, admitted in ((running, first), (first, second), (second, third)):
        await world.run(world.hand, ended)
        await world.admit(ended=[ended])
        assert await world.slots() == {admitted}


async def test_a_higher_priority_goes_first_and_equals_keep_their_order(world: World) -> None:
    await world.limit(JOB, 0)
    low = await world.submit(2, priority=-5)
    high = await world.submit(2, priority=5)
    middle = await world.submit(2)
    await world.limit(JOB, 6)
    rows = await world.tx.fetch(
        "SELECT execution_id FROM execution_transition WHERE target = 'scheduled' ORDER BY position"
    )
    assert [row["execution_id"] for row in rows] == [*high, *middle, *low]


async def test_within_one_flush_priorities_are_weighed_before_the_order_of_arrival(world: World) -> None:
    await world.limit(JOB, 1)
    low, high = request(priority=-1), request(priority=1)
    answers = (await world.accept(low, high)).answers
    ids = [answer.id for answer in answers if answer.id]
    assert await world.statuses(ids) == ["requested", "scheduled"]


async def test_limit_zero_admits_none_and_no_limit_admits_all(world: World) -> None:
    await world.limit(JOB, 0)
    ids = await world.submit(3)
    assert await world.statuses(ids) == ["requested"] * 3
    await world.limit(JOB, None)
    assert await world.statuses(ids) == ["scheduled"] * 3
    # The gate closes behind the last waiter: those who come now take neither lock nor slot.
    key = await world.key()
    assert (key["gated"], key["waiting"], key["active"]) == (False, 0, 3)
    late = await world.submit()
    assert await world.slots() == set(ids)
    await world.run(world.hand, *ids, *late)
    await world.admit(ended=[*ids, *late])
    assert (await world.key())["active"] == 0


async def test_raising_a_limit_admits_exactly_the_difference(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(6)
    key = await world.set_limit(JOB, 4)
    assert (await world.key())["owed"] is True
    row = await world.admit(keys=[key])
    assert row["admitted"] == 3
    assert await world.statuses(ids) == ["scheduled"] * 4 + ["requested"] * 2


async def test_lowering_a_limit_revokes_nothing_and_admits_nothing_until_it_has_drained(world: World) -> None:
    await world.limit(JOB, 3)
    ids = await world.submit(5)
    await world.limit(JOB, 1)
    assert await world.slots() == set(ids[:3])
    for ended, expected in ((ids[0], set(ids[1:3])), (ids[1], {ids[2]}), (ids[2], {ids[3]})):
        await world.run(world.hand, ended)
        await world.admit(ended=[ended])
        assert await world.slots() == expected


async def test_a_first_limit_under_load_counts_what_is_already_in_flight(world: World) -> None:
    ids = await world.submit(4)
    await world.claim(world.hand, ids[0], ids[1])
    assert await world.slots() == set()
    await world.limit(JOB, 2)
    assert await world.slots() == set(ids)
    (late,) = await world.submit()
    assert await world.statuses([late]) == ["requested"]
    assert await world.finish(world.hand, ids[0]) == 1
    await world.admit(ended=[ids[0]])
    assert await world.statuses([late]) == ["requested"]  # three are in flight, two are allowed
    assert await world.finish(world.hand, ids[1]) == 1
    await world.run(world.hand, ids[2])
    await world.admit(ended=[ids[1], ids[2]])
    assert await world.slots() == {ids[3], late}


async def test_the_same_limit_again_writes_nothing(world: World) -> None:
    await world.limit(JOB, 2)
    before = await world.tx.fetchval("SELECT xmin::text FROM queue WHERE name = $1", JOB)
    await world.set_limit(JOB, 2)
    assert await world.tx.fetchval("SELECT xmin::text FROM queue WHERE name = $1", JOB) == before


async def test_a_paused_key_admits_none_and_goes_on_where_it_stopped(world: World) -> None:
    await world.limit(JOB, 2, paused=True)
    ids = await world.submit(3)
    assert await world.statuses(ids) == ["requested"] * 3
    await world.limit(JOB, 2)
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested"]


async def test_releasing_twice_releases_once(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(3)
    await world.run(world.hand, ids[0])
    rows = [await world.admit(ended=[ids[0], ids[0]]), await world.admit(ended=[ids[0]])]
    assert [(row["released"], row["admitted"]) for row in rows] == [(1, 1), (0, 0)]
    assert await world.slots() == {ids[1]}


@pytest.mark.parametrize("state", ["scheduled", "running", "cancelling", "requested"])
async def test_a_completion_of_what_has_not_ended_releases_nothing(world: World, state: str) -> None:
    await world.limit(JOB, 1)
    holder, waiting = await world.submit(2)
    if state in {"running", "cancelling"}:
        await world.claim(world.hand, holder)
    if state == "cancelling":
        await world.admit(decide={holder: "cancelled"})
    row = await world.admit(ended=[waiting if state == "requested" else holder])
    assert (row["released"], row["admitted"]) == (0, 0)
    assert await world.slots() == {holder}
    assert await world.statuses([waiting]) == ["requested"]


async def test_a_retry_gives_its_slot_away_and_enters_again_at_the_end(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(3)
    await world.claim(world.hand, ids[0])
    assert await world.finish(world.hand, ids[0], "requested") == 1
    row = await world.admit(entering=[ids[0]])
    assert (row["released"], row["admitted"]) == (1, 1)
    assert await world.slots() == {ids[1]}
    for ended, admitted in ((ids[1], ids[2]), (ids[2], ids[0])):
        await world.run(world.hand, ended)
        await world.admit(ended=[ended])
        assert await world.slots() == {admitted}
    assert await world.tx.fetchval("SELECT attempt FROM execution WHERE id = $1", ids[0]) == 2


async def test_entering_twice_or_before_its_time_changes_nothing(world: World) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    await world.claim(world.hand, ids[0])
    assert await world.finish(world.hand, ids[0], "requested", delay=3600) == 1
    await world.admit(entering=[ids[0], ids[1]])
    assert await world.slots() == {ids[1]}  # the slot of the first was free although it may not enter yet
    await world.tx.execute("UPDATE execution SET not_before = now() WHERE id = $1", ids[0])
    await world.admit(entering=[ids[0], ids[0]])
    await world.admit(entering=[ids[0]])
    assert await world.tx.fetchval("SELECT count(*) FROM waiting") == 1


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


async def test_without_a_worker_everything_waits_for_the_pool(world: World) -> None:
    await _end_lease(world, world.hand)
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


async def _end_lease(world: World, worker: UUID) -> None:
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second' WHERE id = $1", worker)
