"""The pool's window: lanes take turns, so that a long one does not bury those that come after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World


async def full(world: World, pool: str = "default") -> None:
    """Make the window of a pool one place wide and take it: its one worker claims, and counts as half full."""
    await world.tx.execute("UPDATE worker SET capacity = 1 WHERE pool = $1", pool)
    await world.register("filler", pool=pool)
    assert await world.statuses(await world.submit(2, "filler")) == ["scheduled", "scheduled"]


async def freed(world: World, count: int) -> list[UUID]:
    """Let what is in flight end one after the other, `count` times, and return whom each end let in."""
    before = len(await world.order())
    for n in range(count):
        (oldest,) = await world.tx.fetch("SELECT execution_id FROM in_flight ORDER BY since, execution_id LIMIT 1")
        row = await world.end(oldest["execution_id"])
        assert (row["admitted"], row["more"]) == (1, None), n
    return (await world.order())[before:]


async def prepare(world: World) -> None:
    """Set the stage of these tests: three actions, and a window without room."""
    for name in ("long", "short", "third"):
        await world.register(name)
    await full(world)


@pytest.fixture
async def actions(world: World) -> None:
    await prepare(world)


def alternating(*lanes: list[UUID]) -> list[UUID]:
    return [identity for turn in zip(*lanes, strict=True) for identity in turn]


@pytest.mark.usefixtures("actions")
async def test_a_lane_of_a_thousand_does_not_bury_a_short_one_that_came_later(world: World) -> None:
    long = [identity for _ in range(2) for identity in await world.submit(500, "long")]
    assert await freed(world, 10) == long[:10]
    short = await world.submit(5, "short")
    assert await freed(world, 10) == alternating(short, long[10:15])
    assert await freed(world, 3) == long[15:18]


@pytest.mark.usefixtures("actions")
async def test_three_lanes_take_turns_in_the_order_in_which_they_came(world: World) -> None:
    lanes = [await world.submit(4, name) for name in ("long", "short", "third")]
    assert await freed(world, 12) == alternating(*lanes)


@pytest.mark.usefixtures("actions")
async def test_many_places_at_once_are_shared_by_turns_too(world: World) -> None:
    long, short = await world.submit(20, "long"), await world.submit(3, "short")
    await world.tx.execute("UPDATE worker SET capacity = 5")  # a window of ten, and two are in flight
    await world.admit_on([(await world.key("default", "pool"))["id"]])
    assert await world.order() == [*alternating(long[:3], short), *long[3:5]]


@pytest.mark.usefixtures("actions")
async def test_a_higher_priority_goes_before_all_turns(world: World) -> None:
    long = await world.submit(5, "long")
    assert await freed(world, 1) == long[:1]
    urgent = await world.submit(3, "short", priority=1)
    assert await freed(world, 5) == [*urgent, *long[1:3]]


@pytest.mark.usefixtures("actions")
async def test_a_lane_that_was_idle_does_not_save_up_turns(world: World) -> None:
    (early,) = await world.submit(1, "short")
    long = await world.submit(30, "long")
    assert await freed(world, 11) == [early, *long[:10]]
    # Ten turns went by without the short lane: it begins at the present one, and they alternate.
    late = await world.submit(4, "short")
    assert await freed(world, 8) == alternating(late, long[10:14])


@pytest.mark.usefixtures("actions")
async def test_a_lane_that_comes_and_goes_gets_no_more_than_its_turn(world: World) -> None:
    long = await world.submit(20, "long")
    admitted = []
    for _ in range(5):
        await world.submit(1, "short")
        admitted += await freed(world, 2)
    assert [identity in long for identity in admitted].count(True) == 5


@pytest.mark.usefixtures("actions")
async def test_arrivals_do_not_take_the_place_that_somebody_waits_for(world: World) -> None:
    (waiting,) = await world.submit(1, "long")
    (running,) = await world.tx.fetch("SELECT execution_id FROM in_flight ORDER BY since, execution_id LIMIT 1")
    # A worker ends it, and nobody has told the executor yet: the window is open, and it is not the newcomer's.
    await world.run(world.hand, running["execution_id"])
    (late,) = await world.submit(1, "short")
    assert await world.statuses([waiting, late]) == ["requested", "requested"]
    row = await world.admit(ended=[running["execution_id"]])
    assert row["admitted"] == 1
    assert await world.statuses([waiting, late]) == ["scheduled", "requested"]


@pytest.mark.usefixtures("actions")
async def test_what_leaves_a_key_for_the_window_takes_its_turn_there(world: World) -> None:
    await world.limit("action:short", 0)
    short = await world.submit(3, "short")
    long = await world.submit(10, "long")
    assert await freed(world, 4) == long[:4]
    await world.limit("action:short", 3)
    assert await world.parked_on(short[0]) == "default"
    # It begins at the present turn; of two lanes with the same turn the one that entered first goes first.
    assert await freed(world, 6) == [short[0], *alternating(short[1:], long[4:6]), long[6]]


@pytest.mark.usefixtures("actions")
async def test_what_waits_for_a_key_holds_up_nobody_at_the_window(world: World) -> None:
    await world.limit("action:short", 1)
    short = await world.submit(3, "short")
    long = await world.submit(3, "long")
    # The second of the short lane finds its key full when its turn comes.
    assert await freed(world, 2) == [short[0], long[0]]
    assert await world.slots("action:short") == {short[0]}
    assert await world.parked_on(short[1]) == "action:short"
    assert await freed(world, 2) == [short[1], long[1]]  # the key is free again, and its lane is back in turn


@pytest.mark.usefixtures("actions")
async def test_pools_have_windows_and_turns_of_their_own(world: World) -> None:
    await world.worker("gpu", capacity=1)
    long = await world.submit(5, "long")
    there = await world.submit(3, "short", pool="gpu")
    assert await world.statuses([*long, *there]) == ["requested"] * 5 + ["scheduled"] * 2 + ["requested"]
    row = await world.end(there[0])
    assert row["admitted"] == 1
    assert await world.order() == there
