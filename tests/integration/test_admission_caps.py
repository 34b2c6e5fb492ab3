"""Caps: who may not wait is refused or gives way, after whoever could go went. Nobody is lost, exactly `cap` wait."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.world import request

if TYPE_CHECKING:
    from interlock.acceptance.store import Answer
    from tests.world import World

JOB = "action:job"


async def flush(world: World, count: int, action: str = "job", **fields: object) -> list[Answer]:
    """Accept `count` fresh requests in one flush and return their answers."""
    return (await world.accept(*[request(action, **fields) for _ in range(count)])).answers


def ids_of(answers: list[Answer]) -> list[UUID]:
    return [answer.id for answer in answers if answer.id]


async def waiting(world: World, name: str = JOB) -> int:
    return int((await world.key(name))["waiting"])


async def end_of(world: World, identity: UUID) -> tuple[str, str | None, str | None, str | None]:
    """Return the status of an execution, its class of error and its message, and why it was cancelled."""
    row = await world.tx.fetchrow(
        "SELECT status::text, error ->> 'class' AS class, error ->> 'message' AS message, cancel_reason"
        " FROM execution WHERE id = $1",
        identity,
    )
    assert row is not None
    return row["status"], row["class"], row["message"], row["cancel_reason"]


async def closed(world: World, name: str = JOB, **changes: object) -> int:
    return await world.set_queue(name, lim=0, **changes)


async def test_beyond_the_cap_the_newest_are_refused_as_failed_rows(world: World) -> None:
    await closed(world, cap=3)
    answers = await flush(world, 5)
    ids = ids_of(answers)
    assert await world.statuses(ids) == ["requested"] * 3 + ["failed"] * 2
    assert await waiting(world) == 3
    told = "action:job is full: 3 wait and no more may"
    assert [await end_of(world, identity) for identity in ids[3:]] == [("failed", "queue_full", told, None)] * 2
    assert [answer.accepted for answer in answers] == [True] * 5
    assert [answer.refused is None for answer in answers] == [True] * 3 + [False] * 2
    assert json.loads(answers[4].refused or "{}") == {"class": "queue_full", "message": told}


async def test_every_refusal_is_told_as_an_end(world: World) -> None:
    await closed(world, cap=0)
    ids = ids_of(await flush(world, 4))
    bodies = await world.tx.fetch("SELECT body FROM outbox WHERE exchange = 'completions'")
    told: list[dict[str, Any]] = [event for row in bodies for event in json.loads(f"[{row['body'].strip('[]')}]")]
    assert sorted((event["subject"], event["data"]["status"]) for event in told) == [(str(i), "failed") for i in ids]


async def test_a_full_queue_refuses_the_next_flush_whole_and_takes_one_again_for_each_that_goes(world: World) -> None:
    await world.set_queue(JOB, lim=1, cap=2)
    ids = ids_of(await flush(world, 3))
    assert await world.statuses(ids_of(await flush(world, 2))) == ["failed"] * 2
    await world.end(ids[0])
    assert await world.statuses(ids_of(await flush(world, 2))) == ["requested", "failed"]
    assert await waiting(world) == 2


async def test_who_can_go_at_once_does_not_wait_and_is_not_counted(world: World) -> None:
    await world.set_queue(JOB, lim=3, cap=0)
    assert await world.statuses(ids_of(await flush(world, 5))) == ["scheduled"] * 3 + ["failed"] * 2
    assert await waiting(world) == 0


async def test_the_cap_is_judged_after_the_admission_of_the_same_flush(world: World) -> None:
    await closed(world, cap=2)
    first = ids_of(await flush(world, 2))
    await world.set_queue(JOB, lim=2)  # room, and nobody has been admitted to it yet
    late = ids_of(await flush(world, 3))
    assert await world.statuses([*first, *late]) == ["scheduled"] * 2 + ["requested"] * 2 + ["failed"]


async def test_the_refused_are_the_least_urgent_of_their_flush(world: World) -> None:
    await closed(world, cap=1)
    low, high = request(priority=0), request(priority=9)
    ids = ids_of((await world.accept(low, high)).answers)
    assert await world.statuses(ids) == ["failed", "requested"]


async def test_those_who_waited_before_are_never_refused_for_a_newcomer(world: World) -> None:
    await closed(world, cap=2)
    before = ids_of(await flush(world, 2, priority=-5))
    assert await world.statuses(ids_of(await flush(world, 1, priority=9))) == ["failed"]
    assert await world.statuses(before) == ["requested"] * 2


async def test_a_lower_cap_refuses_only_who_comes_later(world: World) -> None:
    await closed(world, cap=5)
    ids = ids_of(await flush(world, 5))
    await world.set_queue(JOB, cap=1)
    assert await world.statuses(ids_of(await flush(world, 1))) == ["failed"]
    assert await world.statuses(ids) == ["requested"] * 5


async def test_no_cap_is_no_bound(world: World) -> None:
    await closed(world, cap=1)
    await world.set_queue(JOB, cap=None)
    assert await world.statuses(ids_of(await flush(world, 20))) == ["requested"] * 20


async def test_the_oldest_of_its_lane_gives_way_to_each_newcomer(world: World) -> None:
    await closed(world, cap=3, cap_policy="drop_oldest")
    ids = ids_of(await flush(world, 3))
    answers = await flush(world, 2)
    late = ids_of(answers)
    assert await world.statuses([*ids, *late]) == ["cancelled"] * 2 + ["requested"] * 3
    assert [answer.refused for answer in answers] == [None, None]
    assert await end_of(world, ids[0]) == ("cancelled", None, None, "action:job is full: the oldest of 3 gave way")
    assert await waiting(world) == 3
    await world.limit(JOB, 5)
    assert await world.order() == [ids[2], *late]


async def test_one_flush_of_more_than_the_cap_keeps_its_newest(world: World) -> None:
    await closed(world, cap=2, cap_policy="drop_oldest")
    ids = ids_of(await flush(world, 5))
    assert await world.statuses(ids) == ["cancelled"] * 3 + ["requested"] * 2


async def test_a_lane_gives_way_only_to_its_own(world: World) -> None:
    await closed(world, cap=3, cap_policy="drop_oldest")
    other = ids_of(await flush(world, 2, concurrency_key="other"))
    own = ids_of(await flush(world, 1, concurrency_key="own"))
    late = ids_of(await flush(world, 1, concurrency_key="own"))
    assert await world.statuses([*other, *own, *late]) == ["requested", "requested", "cancelled", "requested"]


async def test_with_nobody_before_it_in_its_lane_the_newcomer_gives_way_itself(world: World) -> None:
    await closed(world, cap=2, cap_policy="drop_oldest")
    other = ids_of(await flush(world, 2, concurrency_key="other"))
    late = ids_of(await flush(world, 2, concurrency_key="own"))
    assert await world.statuses([*other, *late]) == ["requested"] * 2 + ["cancelled"] * 2
    assert await waiting(world) == await waiting(world, "key:other") == 2
    assert await waiting(world, "key:own") == 0


async def test_a_lane_of_another_priority_is_another_lane(world: World) -> None:
    await closed(world, cap=1, cap_policy="drop_oldest")
    low = ids_of(await flush(world, 1))
    high = ids_of(await flush(world, 1, priority=5))
    assert await world.statuses([*low, *high]) == ["requested", "cancelled"]


async def test_of_several_caps_the_smallest_decides(world: World) -> None:
    await world.set_queue("key:small", cap=1)
    await closed(world, cap=3)
    small = await flush(world, 3, concurrency_key="small")
    assert await world.statuses(ids_of(small)) == ["requested", "failed", "failed"]
    assert {json.loads(answer.refused)["message"] for answer in small if answer.refused} == {
        "key:small is full: 1 wait and no more may"
    }
    assert await world.statuses(ids_of(await flush(world, 3))) == ["requested", "requested", "failed"]
    assert (await waiting(world), await waiting(world, "key:small")) == (3, 1)


async def test_who_one_cap_turned_away_is_not_counted_by_another(world: World) -> None:
    await closed(world, cap=1)
    await world.set_queue("key:both", cap=1)
    answers = await flush(world, 2, concurrency_key="both")
    assert await world.statuses(ids_of(answers)) == ["requested", "failed"]
    assert [json.loads(answer.refused)["message"] for answer in answers if answer.refused] == [
        "action:job is full: 1 wait and no more may"
    ]


async def test_a_cap_counts_who_waits_for_another_key(world: World) -> None:
    await world.set_queue("key:customer", cap=1)
    await closed(world)
    assert await world.statuses(ids_of(await flush(world, 2, concurrency_key="customer"))) == ["requested", "failed"]


async def test_a_definition_s_cap_bounds_its_key_from_the_first_request_on(world: World) -> None:
    await world.register("mail", limit=1, cap=1, cap_policy="drop_oldest")
    ids = ids_of(await flush(world, 4, "mail"))
    assert await world.statuses(ids) == ["scheduled", "cancelled", "cancelled", "requested"]


async def test_a_retry_enters_a_full_queue(world: World) -> None:
    await world.set_queue(JOB, lim=1, cap=2)
    running, *_ = ids_of(await flush(world, 3))
    await world.claim(world.hand, running)
    await world.set_queue(JOB, lim=0)
    assert await world.finish(world.hand, running, "requested") == 1
    await world.admit(entering=[running])
    assert await world.statuses([running]) == ["requested"]
    assert await waiting(world) == 3  # it was accepted once and for all
    assert await world.statuses(ids_of(await flush(world, 1))) == ["failed"]


async def test_what_comes_due_later_is_not_counted_and_enters_a_full_queue(world: World) -> None:
    await closed(world, cap=1)
    (later,) = ids_of(await flush(world, 1, not_before="2100-01-01T00:00:00Z"))
    assert await waiting(world) == 0
    assert await world.statuses(ids_of(await flush(world, 2))) == ["requested", "failed"]
    await world.tx.execute("UPDATE execution SET not_before = now() WHERE id = $1", later)
    await world.admit(entering=[later])
    assert await waiting(world) == 2


@pytest.mark.parametrize("policy", ["reject", "drop_oldest"])
async def test_a_repeat_of_what_was_turned_away_is_answered_by_its_row(world: World, policy: str) -> None:
    await closed(world, cap=0, cap_policy=policy)
    wanted = request()
    await world.accept(wanted)
    await world.set_queue(JOB, cap=None)
    (answer,) = (await world.accept(wanted)).answers
    assert (answer.accepted, str(answer.existing), answer.error) == (False, wanted["id"], None)
    assert await world.statuses([UUID(wanted["id"])]) == ["failed" if policy == "reject" else "cancelled"]
    assert await waiting(world) == 0


async def test_a_repeat_does_not_make_anybody_give_way(world: World) -> None:
    await closed(world, cap=1, cap_policy="drop_oldest")
    wanted = request()
    await world.accept(wanted)
    await world.accept(wanted, wanted)
    assert await world.statuses([UUID(wanted["id"])]) == ["requested"]


async def test_what_was_turned_away_leaves_its_rate_nothing_to_wake_up_for(world: World) -> None:
    await world.set_queue(JOB, rate_every=3600.0, cap=0)
    assert await world.statuses(ids_of(await flush(world, 2))) == ["scheduled", "failed"]
    assert (await world.key())["wake_at"] is None


async def test_what_a_head_that_gives_way_had_claimed_is_given_to_those_behind_it(world: World) -> None:
    await world.register("both", keys=[{"name": "a"}, {"name": "b"}], cap=1, cap_policy="drop_oldest")
    lanes = {}
    for name in ("a", "b"):
        await world.register(f"only-{name}", keys=[{"name": name}])
        await world.limit(name, 1)
        lanes[name] = ids_of(await flush(world, 1, f"only-{name}"))
    (head,) = ids_of(await flush(world, 1, "both"))
    for name in ("a", "b"):
        lanes[name] += ids_of(await flush(world, 5, f"only-{name}"))
    for name in ("a", "b", "a"):
        await world.end(lanes[name].pop(0))
    assert await world.slots("a") == set()  # kept free for the head, which was passed over three times
    (newcomer,) = ids_of(await flush(world, 1, "both"))
    assert await world.statuses([head, newcomer]) == ["cancelled", "requested"]
    await world.audit()
    owed = await world.tx.fetch("SELECT id FROM queue WHERE owed")
    await world.admit_on([row["id"] for row in owed])
    assert await world.slots("a") == {lanes["a"][0]}
    assert (await world.key("a"))["claim_lane"] is None
