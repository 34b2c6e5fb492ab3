"""Admission: limits are exact, order is kept, nothing is released twice. `world` audits after every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.world import request

if TYPE_CHECKING:
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
