"""Bounded overtaking: a head of several keys that was passed over claims them, and holds nothing by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

PATIENCE = 3


async def stage(world: World) -> None:
    """Two keys with one slot each, and an action for each of them and for both."""
    await world.register("both", keys=[{"name": "a"}, {"name": "b"}])
    await world.register("only-a", keys=[{"name": "a"}])
    await world.register("only-b", keys=[{"name": "b"}])
    for name in ("a", "b"):
        await world.limit(name, 1)


async def turn(world: World, holder: UUID) -> None:
    """Let a holder end and its slots go."""
    await world.run(world.hand, holder)
    await world.admit(ended=[holder])


async def claims(world: World) -> dict[str, UUID | None]:
    """Return which execution claims which key."""
    rows = await world.tx.fetch(
        "SELECT q.name, w.execution_id FROM queue q LEFT JOIN waiting w ON w.lane_id = q.claim_lane"
        " AND w.seq = q.claim_seq WHERE q.claim_lane IS NOT NULL"
    )
    return {row["name"]: row["execution_id"] for row in rows}


async def test_a_head_under_endless_load_on_each_of_its_keys_runs_after_it_was_passed_over_three_times(
    world: World,
) -> None:
    await stage(world)
    a, b = await world.submit(1, "only-a"), await world.submit(1, "only-b")
    (head,) = await world.submit(1, "both")
    a += await world.submit(9, "only-a")
    b += await world.submit(9, "only-b")
    started = 0
    for n in range(20):
        if await world.statuses([head]) == ["scheduled"]:
            break
        queue = a if n % 2 == 0 else b
        if await world.statuses([queue[0]]) == ["scheduled"]:
            await turn(world, queue.pop(0))
            started += 1
    # The third release that finds it passed over is kept for it; it goes with the next one of its other key.
    assert started == PATIENCE + 1
    # Two went before it came, and of those behind it exactly two passed it.
    assert (await world.order()).index(head) == 2 + 2
    assert await world.statuses([head]) == ["scheduled"]
    assert await claims(world) == {}
    await turn(world, head)
    assert [len(await world.slots(name)) for name in ("a", "b")] == [1, 1]


async def passed_over(world: World) -> tuple[UUID, list[UUID], list[UUID]]:
    """Return a head that claims both keys, who waits for `a` alone, and who holds (the first) and waits for `b` alone.

    `a` is free: it was released last, and the claim keeps it so.
    """
    a, b = await world.submit(1, "only-a"), await world.submit(1, "only-b")
    (head,) = await world.submit(1, "both")
    a += await world.submit(9, "only-a")
    b += await world.submit(9, "only-b")
    for n in range(PATIENCE):
        assert await claims(world) == {}
        await turn(world, (a if n % 2 == 0 else b).pop(0))
    assert await claims(world) == {"a": head, "b": head}
    assert [await world.slots("a"), await world.slots("b")] == [set(), {b[0]}]
    return head, a, b


async def test_a_claim_keeps_one_slot_free_and_only_from_those_behind_it(world: World) -> None:
    await stage(world)
    head, _, b = await passed_over(world)
    (better,) = await world.submit(1, "only-a", priority=1)
    assert await world.slots("a") == {better}
    await turn(world, b[0])
    assert await world.slots("b") == set()
    await turn(world, better)
    assert await world.slots("a") == await world.slots("b") == {head}


async def test_with_more_slots_than_one_a_claim_leaves_exactly_one_free(world: World) -> None:
    await stage(world)
    head, a, _ = await passed_over(world)
    await world.limit("a", 4)
    assert await world.slots("a") == set(a[:3])
    assert await world.statuses([head]) == ["requested"]


async def test_without_anyone_passing_there_is_no_claim(world: World) -> None:
    await stage(world)
    for identity in await world.submit(5, "both"):
        assert await claims(world) == {}
        await turn(world, identity)
    assert await claims(world) == {}


async def test_waiting_behind_better_ones_on_one_key_is_not_being_passed_over(world: World) -> None:
    await stage(world)
    a = await world.submit(9, "only-a")
    (head,) = await world.submit(1, "both")
    for identity in a:
        await turn(world, identity)
        assert await claims(world) == {}
    assert await world.statuses([head]) == ["scheduled"]


async def test_the_better_head_takes_a_claim_over(world: World) -> None:
    await stage(world)
    head, _, b = await passed_over(world)
    # Those of the highest priority keep both keys busy and pass everybody; the better head stands between.
    (on_a,) = await world.submit(1, "only-a", priority=9)
    (better,) = await world.submit(1, "both", priority=5)
    (next_b,) = await world.submit(1, "only-b", priority=9)
    assert await claims(world) == {"a": head, "b": head}
    await turn(world, b[0])  # to next_b: not passed over, for it was not looked at with room
    (next_a,) = await world.submit(1, "only-a", priority=9)
    await turn(world, on_a)
    holders = {"a": next_a, "b": next_b}
    for name in ("b", "a", "b", "a", "b", "a"):
        if (await claims(world)).get("a") == better:
            break
        await turn(world, holders[name])
        (holders[name],) = await world.submit(1, f"only-{name}", priority=9)
    assert await claims(world) == {"a": better, "b": better}
    for name in ("a", "b"):
        if await world.slots(name):
            await turn(world, holders[name])
    assert await world.slots("a") == await world.slots("b") == {better}
    await turn(world, better)
    assert await world.slots("a") == await world.slots("b") == {head}


async def test_what_a_cancelled_head_kept_free_goes_to_the_others_at_once(world: World) -> None:
    await stage(world)
    head, a, b = await passed_over(world)
    await world.admit(decide={head: "cancelled"})
    assert await claims(world) == {}
    assert [await world.slots("a"), await world.slots("b")] == [{a[0]}, {b[0]}]


@pytest.mark.parametrize(("shut", "opened"), [({"paused": True}, {"paused": False}), ({"lim": 0}, {"lim": 1})])
async def test_a_claim_is_void_while_another_key_of_its_head_is_shut_and_stands_again_after(
    world: World, shut: dict[str, object], opened: dict[str, object]
) -> None:
    await stage(world)
    head, _, b = await passed_over(world)
    key = await world.set_queue("a", **shut)
    await world.admit_on([key])
    await turn(world, b[0])
    assert await world.slots("b") == {b[1]}, "what cannot go keeps nothing free"
    await world.set_queue("a", **opened)
    await world.admit_on([key])
    assert await claims(world) == {"a": head, "b": head}
    await turn(world, b[1])
    assert await world.slots("a") == await world.slots("b") == {head}


async def test_a_claim_is_void_while_a_rate_holds_its_head_back(world: World) -> None:
    await stage(world)
    _, _, b = await passed_over(world)
    key = await world.set_queue("a", rate_every=3600, rate_burst=1)
    await world.tx.execute("UPDATE queue SET tat = extract(epoch FROM now()) + 3600 WHERE id = $1", key)
    await world.admit_on([key])
    await turn(world, b[0])
    assert await world.slots("b") == {b[1]}


async def test_a_claim_is_void_while_its_pool_has_no_worker(world: World) -> None:
    await stage(world)
    await world.register("elsewhere", keys=[{"name": "b"}], pool="gpu")
    await world.worker("gpu")
    _, _, b = await passed_over(world)
    (other,) = await world.submit(1, "elsewhere")
    await world.admit(decide=dict.fromkeys(b[1:], "cancelled"))
    await world.tx.execute("UPDATE worker SET draining = true WHERE pool = 'default'")
    await turn(world, b[0])
    assert await world.slots("b") == {other}


async def test_room_that_a_void_claim_kept_free_is_given_away_when_its_key_is_looked_at(world: World) -> None:
    await stage(world)
    _, a, _ = await passed_over(world)
    await world.set_queue("b", paused=True)
    assert (await world.admit(keys=[(await world.key("a"))["id"]]))["admitted"] == 1
    assert await world.slots("a") == {a[0]}


async def test_a_head_behind_a_standing_claim_does_not_take_it_over(world: World) -> None:
    await stage(world)
    head, a, _ = await passed_over(world)
    await world.register("a-and-c", keys=[{"name": "a"}, {"name": "c"}])
    await world.register("only-c", keys=[{"name": "c"}])
    await world.limit("c", 1)
    await world.admit(decide=dict.fromkeys(a[1:], "cancelled"))
    await world.limit("a", 2)
    holders = {"a": a[0], "c": (await world.submit(1, "only-c"))[0]}
    (worse,) = await world.submit(1, "a-and-c")
    waiting = {name: await world.submit(9, f"only-{name}") for name in "ac"}
    for name in ("a", "c", "a"):
        assert "c" not in await claims(world)
        await turn(world, holders[name])
        holders[name] = waiting[name].pop(0)
    # Passed over as often as the first, it may have what the first does not claim.
    assert await claims(world) == {"a": head, "b": head, "c": worse}
    assert await world.slots("a") == {holders["a"]}


async def test_claims_come_and_go_without_a_slot_more_or_less(world: World) -> None:
    await stage(world)
    await world.limit("a", 2)
    for _ in range(4):
        await world.submit(4, "only-a")
        await world.submit(3, "only-b")
        await world.submit(1, "both")
    claimed = 0
    oldest = "SELECT execution_id FROM in_flight ORDER BY since, execution_id LIMIT 1"
    while holder := await world.tx.fetchval(oldest):
        await turn(world, holder)
        assert (await world.key("a"))["active"] <= 2
        assert (await world.key("b"))["active"] <= 1
        claimed += bool(await claims(world))
        await world.audit()
    assert claimed > 0
    assert await world.tx.fetchval("SELECT count(*) FROM execution WHERE status <> 'completed'") == 0
    assert await world.statuses(await world.submit(2, "only-a") + await world.submit(1, "only-b")) == ["scheduled"] * 3
