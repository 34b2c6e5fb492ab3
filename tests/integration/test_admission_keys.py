"""Group keys and named locks, from a registered definition to the slots: who shares a key shares its limit."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.eventually import eventually
from tests.races import one_waits_for_the_other
from tests.world import request

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

CUSTOMER = {"name": "customer/{{ params.customer }}", "limit": 1}
LOCK = {"name": "the-printer", "limit": 1}


async def of(world: World, customer: object, count: int = 1, action: str = "bill", **fields: object) -> list[UUID]:
    """Request `count` executions for a customer, in one flush."""
    return await world.submit(count, action, params={"customer": customer}, **fields)


async def bounds(world: World, name: str) -> tuple[object, ...]:
    row = await world.key(name)
    return tuple(
        row[column] for column in ("lim", "cap", "cap_policy", "rate_every", "rate_burst", "template", "gated")
    )


async def keys_of(world: World, identity: UUID) -> set[str]:
    """Return the names of the keys of the lane of an execution, the pool left out."""
    rows = await world.tx.fetch(
        "SELECT q.name FROM execution e JOIN lane l ON l.id = e.lane_id JOIN queue q ON q.id = ANY(l.keys)"
        " WHERE e.id = $1 AND q.scope = 'leaf'",
        identity,
    )
    return {row["name"] for row in rows}


async def error_of(world: World, identity: UUID) -> dict[str, str]:
    text = await world.tx.fetchval("SELECT error FROM execution WHERE id = $1 AND status = 'failed'", identity)
    assert text is not None
    found: dict[str, str] = json.loads(text)
    return found


async def test_one_customer_is_limited_and_the_others_are_not_affected(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    busy = await of(world, 7, 3)
    others = [identity for customer in range(10, 15) for identity in await of(world, customer)]
    assert await world.statuses(busy) == ["scheduled", "requested", "requested"]
    assert await world.statuses(others) == ["scheduled"] * 5
    await world.end(busy[0])
    assert await world.slots("customer/7") == {busy[1]}
    assert await world.slots("customer/10") == {others[0]}


async def test_a_customer_s_limit_and_the_action_s_own_hold_together(world: World) -> None:
    await world.register("bill", keys=[{**CUSTOMER, "limit": 2}], limit=3)
    first, second = await of(world, 1, 3), await of(world, 2, 3)
    assert (
        await world.statuses([*first, *second]) == ["scheduled"] * 2 + ["requested"] + ["scheduled"] + ["requested"] * 2
    )
    assert (await world.parked_on(first[2]), await world.parked_on(second[1])) == ("customer/1", "action:bill")
    # Of both lanes the head of the first entered earlier, and its customer is still at its limit.
    await world.end(second[0])
    assert await world.slots("action:bill") == {*first[:2], second[1]}
    await world.end(first[0])
    assert await world.slots("action:bill") == {first[1], first[2], second[1]}


async def test_customers_of_two_actions_are_one_key(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    await world.register("remind", keys=[CUSTOMER])
    (billed,) = await of(world, 7)
    (reminded,) = await of(world, 7, action="remind")
    (elsewhere,) = await of(world, 8, action="remind")
    assert await world.statuses([billed, reminded, elsewhere]) == ["scheduled", "requested", "scheduled"]
    await world.end(billed)
    assert await world.slots("customer/7") == {reminded}


async def test_a_named_lock_is_held_by_one_at_a_time_in_the_order_of_entering_over_both_actions(world: World) -> None:
    await world.register("print", keys=[LOCK])
    await world.register("clean", keys=[LOCK])
    ids = [(await world.submit(1, name))[0] for name in ("print", "clean", "clean", "print", "clean", "print")]
    for identity in ids:
        assert await world.slots("the-printer") == {identity}
        await world.end(identity)
    assert await world.order() == ids
    assert (await world.key("the-printer"))["active"] == 0


async def test_priority_goes_first_and_then_the_order_of_entering_over_lanes(world: World) -> None:
    await world.register("print", keys=[LOCK])
    await world.register("clean", keys=[LOCK])
    (holder,) = await world.submit(1, "print")
    low = [(await world.submit(1, name))[0] for name in ("clean", "print", "clean")]
    high = [(await world.submit(1, name, priority=5))[0] for name in ("print", "clean")]
    for identity in (holder, *high, *low):
        assert await world.slots("the-printer") == {identity}
        await world.end(identity)


async def test_two_requests_of_one_flush_take_their_turns(world: World) -> None:
    await world.register("print", keys=[LOCK])
    await world.register("clean", keys=[LOCK])
    wanted = [request("clean"), request("print"), request("clean", priority=1)]
    ids = [answer.id for answer in (await world.accept(*wanted)).answers if answer.id]
    assert await world.statuses(ids) == ["requested", "requested", "scheduled"]
    await world.end(ids[2])
    assert await world.slots("the-printer") == {ids[0]}


async def test_two_customers_of_one_flush_go_together(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    wanted = [request("bill", params={"customer": customer}) for customer in (1, 2, 1, 2)]
    ids = [answer.id for answer in (await world.accept(*wanted)).answers if answer.id]
    assert await world.statuses(ids) == ["scheduled", "scheduled", "requested", "requested"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({}, (None, None, "reject", None, 1)),
        ({"limit": 3}, (3, None, "reject", None, 1)),
        ({"cap": 9, "cap_policy": "drop_oldest"}, (None, 9, "drop_oldest", None, 1)),
        ({"rate": "10/s", "burst": 4}, (None, None, "reject", 0.1, 4)),
        ({"limit": 0, "rate": "1000/s", "cap": 0}, (0, 0, "reject", 0.001, 10)),
    ],
)
async def test_a_key_is_made_with_the_bounds_of_its_definition(
    world: World, key: dict[str, Any], expected: tuple[object, ...]
) -> None:
    template = "customer/{{ params.customer }}"
    await world.register("bill", keys=[{"name": template, **key}])
    await world.accept(request("bill", params={"customer": 7}))
    # It is gated as soon as something but a cap bounds it: a cap bounds who waits, and nobody does.
    gated = expected[0] is not None or expected[3] is not None
    assert await bounds(world, "customer/7") == (*expected, template, gated)
    assert (await bounds(world, "action:bill"))[:6] == (None, None, "reject", None, 1, "action:bill")


async def test_a_key_that_is_there_keeps_what_a_person_set(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    await of(world, 7)
    await world.limit("customer/7", 5)
    ids = await of(world, 7, 5)
    assert await world.statuses(ids) == ["scheduled"] * 4 + ["requested"]
    assert (await world.key("customer/7"))["template"] == CUSTOMER["name"]


async def test_a_concurrency_key_of_a_request_is_never_a_definition_s_key(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    (identity,) = await of(world, 7)
    (other,) = await of(world, 8, concurrency_key="customer/7")
    assert await world.statuses([identity, other]) == ["scheduled"] * 2
    assert await keys_of(world, other) == {"action:bill", "customer/8", "key:customer/7"}


async def test_an_execution_has_each_key_that_its_action_and_its_request_name(world: World) -> None:
    names = [f"lock/{n}" for n in range(5)]
    await world.register("many", keys=[{"name": name, "limit": 1} for name in names], limit=1)
    ids = await world.submit(2, "many", concurrency_key="own")
    wanted = {"action:many", "key:own", *names}
    assert await keys_of(world, ids[0]) == wanted
    # What nobody bounds takes no slot.
    limited = wanted - {"key:own"}
    assert [await world.slots(name) for name in sorted(limited)] == [{ids[0]}] * 6
    await world.end(ids[0])
    assert [await world.slots(name) for name in sorted(limited)] == [{ids[1]}] * 6


async def test_a_request_with_a_new_key_does_not_enter_the_lane_of_its_other_keys(world: World) -> None:
    (plain,) = await world.submit()
    (new,) = await world.submit(concurrency_key="new")
    assert await keys_of(world, new) == await keys_of(world, plain) | {"key:new"}


async def test_templates_that_come_out_alike_are_one_key_and_one_slot(world: World) -> None:
    await world.register("move", keys=[{"name": f"box/{{{{ params.{end} }}}}", "limit": 1} for end in ("a", "b")])
    (same,) = await world.submit(1, "move", params={"a": 1, "b": 1})
    assert await keys_of(world, same) == {"action:move", "box/1"}
    (waits,) = await world.submit(1, "move", params={"a": 2, "b": 1})
    (swapped,) = await world.submit(1, "move", params={"a": 1, "b": 2})
    assert await world.statuses([same, waits, swapped]) == ["scheduled", "requested", "requested"]
    assert await keys_of(world, waits) == await keys_of(world, swapped)
    await world.end(same)
    assert await world.statuses([waits, swapped]) == ["scheduled", "requested"]  # one lane: the same keys


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "params.customer is not given"),
        ({"customer": None}, "the value is null"),
        ({"customer": [1]}, "the value is a list"),
        ({"customer": "a\nb"}, "a key's name is one printable line"),
        ({"customer": "x" * 255}, "a key's name has 1 to 255 characters"),
    ],
)
async def test_a_request_whose_key_cannot_be_named_is_a_failed_row_that_says_which(
    world: World, params: dict[str, Any], reason: str
) -> None:
    await world.register("bill", keys=[CUSTOMER])
    answer, neighbour = (
        await world.accept(request("bill", params=params), request("bill", params={"customer": 1}))
    ).answers
    assert answer.id is not None
    assert neighbour.id is not None
    assert answer.accepted
    found = await error_of(world, answer.id)
    assert found["class"] == "invalid_params"
    assert found["message"].startswith(f"keys[0].name: {reason}")
    assert json.loads(answer.refused or "null") == found
    # It enters no lane and makes no key, and who came with it is not affected.
    assert await world.tx.fetchval("SELECT lane_id FROM execution WHERE id = $1", answer.id) is None
    assert await world.tx.fetchval("SELECT count(*) FROM queue WHERE name LIKE 'customer/%'") == 1
    assert await world.statuses([neighbour.id]) == ["scheduled"]


async def test_a_retry_keeps_its_keys_and_enters_behind_those_of_its_customer(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    first, second = await of(world, 7, 2)
    await world.claim(world.hand, first)
    await world.finish(world.hand, first, "requested")
    await world.admit(entering=[first])
    assert await world.slots("customer/7") == {second}
    await world.end(second)
    assert await world.slots("customer/7") == {first}


async def test_a_first_limit_on_a_group_counts_what_of_it_is_in_flight(world: World) -> None:
    await world.register("bill", keys=[{"name": CUSTOMER["name"]}])
    await world.register("remind", keys=[{"name": CUSTOMER["name"]}])
    running = [*await of(world, 7, 2), *await of(world, 7, action="remind")]
    await of(world, 8, 2)
    assert await world.slots("customer/7") == set()
    await world.limit("customer/7", 2)
    assert await world.slots("customer/7") == set(running)
    (late,) = await of(world, 7)
    for identity in running[:2]:
        assert await world.statuses([late]) == ["requested"]
        await world.end(identity)
    assert await world.statuses([late]) == ["scheduled"]


async def test_a_head_that_waits_for_its_customer_holds_up_nobody_else_of_its_action(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER], limit=2)
    busy = await of(world, 7, 4)
    quick = [identity for customer in range(5) for identity in await of(world, customer)]
    assert await world.statuses(busy) == ["scheduled"] + ["requested"] * 3
    for identity in quick:
        assert identity in await world.slots("action:bill")
        await world.end(identity)
    assert await world.slots("action:bill") == {busy[0]}


async def test_a_row_that_left_its_lane_without_the_locks_of_its_keys_stops_the_admission(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    first, second = await of(world, 7, 2)
    await world.run(world.hand, first)
    transaction = world.tx.transaction()
    await transaction.start()
    await world.tx.execute("UPDATE execution SET status = 'cancelled' WHERE id = $1 AND status = 'requested'", second)
    with pytest.raises(asyncpg.AssertError, match="moved without the locks of its keys"):
        await world.admit(ended=[first])
    await transaction.rollback()
    assert (await world.admit(ended=[first]))["admitted"] == 1


async def test_handling_a_completion_of_several_keys_twice_releases_each_once(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER], limit=2)
    ids = await of(world, 7, 3)
    await world.run(world.hand, ids[0])
    rows = [await world.admit(ended=[ids[0]] * n) for n in (2, 1)]
    assert [(row["released"], row["admitted"]) for row in rows] == [(2, 1), (0, 0)]


async def test_a_completion_that_is_forged_or_early_releases_no_key(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER], limit=2)
    ids = await of(world, 7, 2)
    for prepare in (lambda: world.statuses(ids), lambda: world.claim(world.hand, ids[0])):
        await prepare()
        row = await world.admit(ended=ids)
        assert (row["released"], row["admitted"]) == (0, 0)
    assert await world.slots("customer/7") == await world.slots("action:bill") == {ids[0]}


async def test_releases_in_two_lanes_of_one_lock_admit_one_each(world: World) -> None:
    await world.register("print", keys=[{**LOCK, "limit": 2}])
    await world.register("clean", keys=[{**LOCK, "limit": 2}])
    ids = [(await world.submit(1, name))[0] for name in ("print", "clean") * 3]
    await world.run(world.hand, *ids[:2])
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(ended=[ids[1]])
        )
    assert [(row["released"], row["admitted"]) for row in (first, second)] == [(1, 1), (1, 1)]
    assert await world.slots("the-printer") == {*ids[2:4]}


async def test_two_callers_that_look_at_one_lock_hand_out_its_free_slot_once(world: World) -> None:
    await world.register("print", keys=[LOCK])
    await world.register("clean", keys=[LOCK])
    ids = [(await world.submit(1, name))[0] for name in ("print", "clean", "print")]
    key = await world.set_queue("the-printer", lim=2)
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(keys=[key]), other, lambda w: w.admit(keys=[key])
        )
    assert [row["admitted"] for row in (first, second)] == [1, 0]
    assert await world.slots("the-printer") == set(ids[:2])


async def test_releases_of_keys_in_opposite_orders_do_not_deadlock(world: World) -> None:
    for name, ends in (("there", "ab"), ("back", "ba")):
        await world.register(name, keys=[{"name": end, "limit": 2} for end in ends])
    ids = [(await world.submit(1, name))[0] for name in ("there", "back") * 2]
    await world.run(world.hand, *ids[:2])
    async with world.another() as other:
        first, second = await one_waits_for_the_other(
            world, lambda w: w.admit(ended=[ids[0]]), other, lambda w: w.admit(ended=[ids[1]])
        )
    assert [(row["released"], row["admitted"]) for row in (first, second)] == [(2, 1), (2, 1)]


async def test_who_gets_its_place_first_is_admitted_first_whoever_came_first(world: World) -> None:
    await world.register("bill", keys=[CUSTOMER])
    (holder,) = await of(world, 7)
    async with world.another() as other:
        # The second caller waits for the first of its keys; its number must not be drawn before it has them.
        transaction = world.tx.transaction()
        await transaction.start()
        await world.set_queue("action:bill", cap=100)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(of(other, 7))
            await eventually(lambda: world.is_blocking(other))
            (first,) = await of(world, 7)
            await transaction.commit()
        (second,) = task.result()
    for identity in (holder, first, second):
        assert await world.slots("customer/7") == {identity}
        await world.end(identity)
    assert await world.order() == [holder, first, second]


async def test_an_arrival_that_meets_the_first_limit_of_its_customer_is_done_again_and_obeys_it(world: World) -> None:
    await world.register("bill", keys=[{"name": CUSTOMER["name"]}])
    await of(world, 7)
    wanted = request("bill", params={"customer": 7})
    async with world.another() as other:
        with pytest.raises(ExceptionGroup) as failed:
            await one_waits_for_the_other(world, lambda w: w.limit("customer/7", 1), other, lambda w: w.accept(wanted))
        assert failed.group_contains(asyncpg.SerializationError, match="limited meanwhile")
        await other.accept(wanted)
    assert (await world.key("customer/7"))["waiting"] == 1


async def test_a_limit_on_one_customer_does_not_wait_for_arrivals_of_another(world: World) -> None:
    await world.register("bill", keys=[{"name": CUSTOMER["name"]}])
    await of(world, 7)
    async with world.another() as other:
        transaction = world.tx.transaction()
        await transaction.start()
        await of(world, 8)
        await asyncio.wait_for(other.set_queue("customer/7", lim=1), timeout=10)
        await transaction.commit()
    assert (await world.key("customer/7"))["active"] == 1
