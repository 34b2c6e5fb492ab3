"""Acceptance: a request is a committed row, once, or an answer that says why not. `world` audits after it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.world import fresh_id, request

if TYPE_CHECKING:
    from interlock.acceptance.store import Answer
    from tests.world import World

JOB = "action:job"


async def one(world: World, data: dict[str, Any]) -> Answer:
    """Accept a single request."""
    (answer,) = (await world.accept(data)).answers
    return answer


async def row(world: World, identity: object) -> dict[str, Any]:
    found = await world.tx.fetchrow(
        "SELECT *, status::text AS state, error::text AS told FROM execution WHERE id = $1", UUID(str(identity))
    )
    assert found is not None
    return {**found, "error": json.loads(found["told"]) if found["told"] else None}


async def test_what_nothing_limits_is_scheduled_at_once_without_slot_or_place(world: World) -> None:
    (identity,) = await world.submit()
    found = await row(world, identity)
    assert (found["state"], found["attempt"], found["seq"], found["moves"]) == ("scheduled", 1, None, 1)
    assert await world.tx.fetchval("SELECT count(*) FROM slot") == 0
    assert (await world.key())["gated"] is False


async def test_what_nothing_limits_holds_no_key_exclusively(world: World) -> None:
    await world.submit()
    async with world.another() as other:
        async with world.tx.transaction():
            await world.submit(3)
            # The other acceptance goes through while the first is not committed.
            (second,) = await other.submit()
            locks = await other.tx.fetch("SELECT id FROM queue FOR KEY SHARE NOWAIT")
            assert len(locks) == 2
        assert await world.statuses([second]) == ["scheduled"]


async def test_a_request_is_stored_as_it_was_sent(world: World) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    data = request(
        params={"b": [1, "ä", None], "a": {"x": 2.5}}, priority=7, tags=["x", "y"], deadline=later.isoformat()
    )
    assert (await one(world, data)).accepted
    found = await row(world, data["id"])
    assert json.loads(found["params"]) == data["params"]
    assert json.loads(found["tags"]) == ["x", "y"]
    assert (found["action_version"], found["pool"], found["priority"], found["deadline"]) == (1, "default", 7, later)
    assert (found["root_id"], found["parent_id"]) == (UUID(data["id"]), None)


async def test_a_full_window_lets_as_many_through_as_it_has_places(world: World) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 2")
    assert await world.statuses(await world.submit(6)) == ["scheduled"] * 4 + ["requested"] * 2


async def test_another_pool_than_the_actions_own_may_be_asked_for(world: World) -> None:
    (identity,) = await world.submit(pool="gpu")
    assert ((await row(world, identity))["state"], await world.parked_on(identity)) == ("requested", "gpu")


async def test_the_same_request_again_is_answered_by_the_row_that_stands(world: World) -> None:
    data = request(params={"a": 1, "b": 2})
    assert (await one(world, data)).accepted
    again = await one(world, {"params": {"b": 2, "a": 1.0}, "action": "job", "id": data["id"]})
    assert (again.accepted, again.existing, again.error) == (False, UUID(data["id"]), None)
    assert (await row(world, data["id"]))["moves"] == 1


async def test_the_same_request_twice_in_one_flush_is_one_row_and_no_conflict(world: World) -> None:
    data = request()
    first, second = (await world.accept(data, dict(data))).answers
    assert (first.accepted, second.accepted) == (True, False)
    assert (second.existing, second.error) == (UUID(data["id"]), None)


async def test_one_id_with_two_contents_in_one_flush_keeps_the_first(world: World) -> None:
    data = request()
    first, second = (await world.accept(data, {**data, "priority": 5})).answers
    assert first.accepted
    assert second.error is not None
    assert second.error.reason == "conflict"
    assert (await row(world, data["id"]))["priority"] == 0


async def test_a_known_id_with_other_content_is_a_conflict(world: World) -> None:
    data = request()
    await world.accept(data)
    answer = await one(world, {**data, "params": {"other": True}})
    assert answer.error is not None
    assert (answer.accepted, answer.existing, answer.error.reason) == (False, UUID(data["id"]), "conflict")
    assert data["id"] in str(answer.error)


async def test_a_refused_request_repeated_after_its_action_came_is_still_the_same_request(world: World) -> None:
    data = request("later")
    assert (await one(world, data)).refused is not None
    await world.register("later")
    again = await one(world, data)
    assert (again.accepted, again.existing, again.error) == (False, UUID(data["id"]), None)
    assert (await row(world, data["id"]))["state"] == "failed"


async def test_an_idempotency_key_leads_to_the_execution_that_has_it(world: World) -> None:
    first = request(idempotency_key="invoice-7")
    await world.accept(first)
    again = await one(world, {**first, "id": str(fresh_id())})
    assert (again.accepted, again.existing, again.error) == (False, UUID(first["id"]), None)
    other = await one(world, request(idempotency_key="invoice-7", params={"x": 1}))
    assert other.error is not None
    assert (other.accepted, other.existing, other.error.reason) == (False, UUID(first["id"]), "key_in_use")
    assert await world.tx.fetchval("SELECT count(*) FROM execution") == 1


async def test_two_requests_with_one_idempotency_key_in_one_flush_are_one_execution(world: World) -> None:
    first, second = request(idempotency_key="once"), request(idempotency_key="once")
    answers = (await world.accept(first, second)).answers
    assert [answer.accepted for answer in answers] == [True, False]
    assert answers[1].existing == UUID(first["id"])
    assert await world.tx.fetchval("SELECT count(*) FROM execution") == 1


async def test_an_idempotency_key_is_free_again_when_it_has_expired(world: World) -> None:
    await world.accept(request(idempotency_key="daily"))
    await world.tx.execute("UPDATE idempotency_key SET expires_at = now() - interval '1 second'")
    second = request(idempotency_key="daily")
    assert (await one(world, second)).accepted
    owner = await world.tx.fetchval("SELECT execution_id FROM idempotency_key WHERE key = 'daily'")
    assert owner == UUID(second["id"])


async def test_a_conflict_of_ids_does_not_burn_the_idempotency_key(world: World) -> None:
    known = request()
    await world.accept(known)
    answer = await one(world, {**known, "idempotency_key": "mine"})
    assert answer.error is not None
    assert answer.error.reason == "conflict"
    assert (await one(world, request(idempotency_key="mine"))).accepted


async def test_a_repeat_keeps_the_idempotency_key_it_took(world: World) -> None:
    data = request(idempotency_key="kept")
    await world.accept(data)
    await world.accept(data)
    assert await world.tx.fetchval("SELECT execution_id FROM idempotency_key") == UUID(data["id"])


async def test_a_tombstone_cancels_the_request_when_it_comes_and_is_used_up(world: World) -> None:
    data = request()
    await world.tx.execute(
        "INSERT INTO cancel_tombstone VALUES ($1, 'changed my mind', '/client', now() + interval '1 hour')",
        UUID(data["id"]),
    )
    assert (await one(world, data)).accepted
    found = await row(world, data["id"])
    assert (found["state"], found["cancel_reason"]) == ("cancelled", "changed my mind")
    assert await world.tx.fetchval("SELECT count(*) FROM cancel_tombstone") == 0


async def test_an_expired_tombstone_cancels_nothing(world: World) -> None:
    data = request()
    await world.tx.execute(
        "INSERT INTO cancel_tombstone VALUES ($1, 'x', '/client', now() - interval '1 second')", UUID(data["id"])
    )
    await world.accept(data)
    assert await world.statuses([UUID(data["id"])]) == ["scheduled"]


async def timers(world: World) -> dict[str, datetime]:
    return {r["kind"]: r["due"] for r in await world.tx.fetch("SELECT kind, due FROM timer")}


async def test_not_before_waits_for_its_timer_and_for_nothing_else(world: World) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    (identity,) = await world.submit(not_before=due.isoformat())
    assert await world.statuses([identity]) == ["requested"]
    assert await timers(world) == {"enter": due}
    assert await world.tx.fetchval("SELECT count(*) FROM waiting") == 0
    await world.tx.execute("UPDATE execution SET not_before = now() - interval '1 second'")
    await world.admit(entering=[identity])
    assert await world.statuses([identity]) == ["scheduled"]
    assert await timers(world) == {}


async def test_not_before_in_the_past_is_now(world: World) -> None:
    (identity,) = await world.submit(not_before="2020-01-01T00:00:00Z")
    assert await world.statuses([identity]) == ["scheduled"]
    assert await timers(world) == {}


async def test_deadlines_become_timers_and_the_earlier_of_two_counts(world: World) -> None:
    await world.register("slow", timeout={"queue": 60, "total": 3600})
    await world.limit("action:slow", 0)
    soon = datetime.now(UTC) + timedelta(minutes=5)
    (identity,) = await world.submit(action="slow", deadline=soon.isoformat())
    found = await timers(world)
    assert found.keys() == {"queue", "total"}
    assert found["total"] == soon
    assert found["queue"] - (await row(world, identity))["requested_at"] == timedelta(seconds=60)
    await world.limit("action:slow", 1)
    assert (await timers(world)).keys() == {"total"}


async def test_a_rolled_back_acceptance_leaves_nothing(world: World) -> None:
    transaction = world.tx.transaction()
    await transaction.start()
    await world.accept(request(idempotency_key="k", concurrency_key="c", deadline="2030-01-01T00:00:00Z"))
    await transaction.rollback()
    for table in (
        "execution",
        "idempotency_key",
        "outbox",
        "timer",
        "in_flight",
        "execution_transition",
        "queue",
        "lane",
    ):
        assert await world.tx.fetchval(f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608 - our own names


async def test_a_flush_of_hundreds_is_accepted_whole_and_in_order(world: World) -> None:
    await world.limit(JOB, 10)
    ids = await world.submit(500)
    assert await world.statuses(ids) == ["scheduled"] * 10 + ["requested"] * 490
    rows = await world.tx.fetch("SELECT execution_id FROM waiting ORDER BY seq")
    assert [r["execution_id"] for r in rows] == ids[10:]
