"""The four timeouts and the deadline of a request, down to the statements: who ends what, when, and what is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from executor import store
from executor.loops.timers import decisions, timers
from interlock.contract.status import Status
from tests.attempts import WORKER, claim, finish
from tests.world import ACTOR
from worker import store as worker_store

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from executor.loops.periodic import Context
    from tests.world import World


async def row(world: World, identity: UUID) -> asyncpg.Record:
    found = await world.tx.fetchrow(
        "SELECT *, status::text AS status, error::text AS error FROM execution WHERE id = $1", identity
    )
    assert found is not None
    return found


async def last_reason(world: World, identity: UUID) -> str | None:
    found: str | None = await world.tx.fetchval(
        "SELECT reason FROM execution_transition WHERE execution_id = $1 ORDER BY move DESC LIMIT 1", identity
    )
    return found


async def timer(world: World, kind: str) -> dict[UUID, datetime]:
    rows = await world.tx.fetch("SELECT execution_id, due FROM timer WHERE kind = $1", kind)
    return {found["execution_id"]: found["due"] for found in rows}


async def fall_due(world: World, kind: str) -> None:
    await world.tx.execute("UPDATE timer SET due = now() - interval '1 second' WHERE kind = $1", kind)


async def test_what_waits_longer_than_its_queue_timeout_ends_and_what_was_admitted_does_not(
    world: World, context: Context
) -> None:
    await world.register("slow", timeout={"queue": "1m"})
    await world.limit("action:slow", 1)
    admitted, waiting = await world.submit(2, action="slow")
    assert (await timer(world, "queue")).keys() == {waiting}
    await fall_due(world, "queue")
    await timers(context)
    assert await world.statuses([admitted, waiting]) == ["scheduled", "timed_out"]
    error = {"class": "timed_out", "message": "timed_out: waited longer than its queue timeout"}
    assert json.loads((await row(world, waiting))["error"]) == error
    assert await timer(world, "queue") == {}


async def test_a_queue_deadline_that_is_read_before_an_admission_misses_what_was_admitted(world: World) -> None:
    await world.register("slow", timeout={"queue": "1m"})
    await world.limit("action:slow", 0)
    (identity,) = await world.submit(action="slow")
    await fall_due(world, "queue")
    (due,) = await store.due_timers(world.tx)
    await world.limit("action:slow", 1)
    wanted = decisions(due["kind"], [due])
    async with world.tx.transaction():
        admission = await store.admit(world.tx, ACTOR, decisions=wanted, reason="timed_out")
    assert (admission.decided, await world.statuses([identity])) == ([], ["scheduled"])


async def test_what_no_worker_starts_in_time_goes_back_to_the_end_of_its_lane(world: World) -> None:
    await world.register("prompt", timeout={"start": "5s"})
    await world.register("patient", timeout={"start": None})
    (prompt,), (patient,), (usual,) = [await world.submit(action=name) for name in ("prompt", "patient", "job")]

    async def stranded(seconds: float) -> list[UUID]:
        await world.tx.execute("UPDATE in_flight SET since = now() - $1 * interval '1 second'", seconds)
        return [found["execution_id"] for found in await store.stranded_executions(world.tx)]

    assert await stranded(4.9) == []
    assert await stranded(5.1) == [prompt]
    assert await stranded(59.9) == [prompt]
    assert await stranded(60.1) == sorted([prompt, usual])
    assert patient not in await stranded(86_400)


async def test_a_claim_leaves_a_backstop_for_what_has_a_run_timeout_and_nothing_for_what_has_none(world: World) -> None:
    await world.register("bounded", timeout={"run": "2m"}, grace="20s")
    await world.register("usual", timeout={"run": "2m"})
    asked = [(await world.submit(action=name))[0] for name in ("bounded", "usual", "job")]
    assert (await claim(world, *asked[:2], asked[2])).keys() == set(asked)
    started = {identity: (await row(world, identity))["started_at"] for identity in asked}
    assert await timer(world, "run") == {
        asked[0]: started[asked[0]] + timedelta(seconds=120 + 20 + 30),
        asked[1]: started[asked[1]] + timedelta(seconds=120 + 10 + 30),
    }


async def test_a_claim_from_the_table_leaves_the_same_backstop(world: World) -> None:
    await world.register("bounded", timeout={"run": "2m"})
    (identity,) = await world.submit(action="bounded")
    await world.submit()
    claimed = await worker_store.claim_from_table(
        world.tx, world.hand, pool="default", most=10, older=-1.0, actor=WORKER
    )
    assert len(claimed.claimed) == 2
    assert await timer(world, "run") == {identity: (await row(world, identity))["started_at"] + timedelta(seconds=160)}


async def test_the_backstop_goes_with_its_attempt_and_the_next_one_gets_its_own(world: World) -> None:
    await world.register("bounded", timeout={"run": "2m"}, retry={"max_attempts": 2})
    (identity,) = await world.submit(action="bounded")
    await claim(world, identity)
    assert await finish(world, identity, "requested", outcome="failed") is Status.REQUESTED
    assert await timer(world, "run") == {}
    await world.admit(entering=[identity])
    claimed = await worker_store.claim(world.tx, world.hand, [(identity, 2)], WORKER)
    assert len(claimed.claimed) == 1
    assert (await timer(world, "run")).keys() == {identity}


async def test_an_attempt_that_outlives_its_backstop_is_told_to_stop_and_ends_timed_out(
    world: World, context: Context
) -> None:
    await world.register("bounded", timeout={"run": "2m"})
    late, early = await world.submit(2, action="bounded")
    await claim(world, late, early)
    assert await finish(world, early, "completed", result="1") is Status.COMPLETED
    await fall_due(world, "run")
    await timers(context)
    found = await row(world, late)
    assert (found["status"], found["cancel_reason"]) == ("cancelling", "timed_out: ran longer than its run timeout")
    assert await world.tx.fetchval("SELECT routing_key FROM outbox WHERE exchange = 'control'") == str(world.hand)
    # The worker says how it stopped; the row knows why.
    assert await finish(world, late, "cancelled") is Status.TIMED_OUT
    error = {"class": "timed_out", "message": "timed_out: ran longer than its run timeout"}
    assert json.loads((await row(world, late))["error"]) == error
    assert await world.statuses([early]) == ["completed"]


async def test_a_backstop_that_is_read_before_a_retry_does_not_end_the_retry(world: World) -> None:
    await world.register("bounded", timeout={"run": "2m"}, retry={"max_attempts": 2})
    (identity,) = await world.submit(action="bounded")
    await claim(world, identity)
    await fall_due(world, "run")
    (due,) = await store.due_timers(world.tx)
    await finish(world, identity, "requested", outcome="timed_out", delay=60.0)
    wanted = decisions(due["kind"], [due])
    async with world.tx.transaction():
        admission = await store.admit(world.tx, ACTOR, decisions=wanted, reason="timed_out")
    assert (admission.decided, await world.statuses([identity])) == ([], ["requested"])


async def test_a_request_keeps_the_earlier_of_its_deadline_and_the_total_timeout(world: World) -> None:
    await world.register("slow", timeout={"total": "1h"})
    soon = datetime.now(UTC) + timedelta(minutes=5)
    (asked,) = await world.submit(action="slow", deadline=soon.isoformat())
    (usual,) = await world.submit(action="slow")
    (free,) = await world.submit()
    accepted = (await row(world, usual))["requested_at"]
    deadlines = {identity: (await row(world, identity))["deadline"] for identity in (asked, usual, free)}
    assert deadlines == {asked: soon, usual: accepted + timedelta(hours=1), free: None}
    assert await timer(world, "total") == {asked: soon, usual: accepted + timedelta(hours=1)}


async def test_the_deadline_ends_what_waits_for_a_retry_and_stops_what_runs(world: World, context: Context) -> None:
    await world.register("slow", timeout={"total": "1h"}, retry={"max_attempts": 9})
    waiting, running = await world.submit(2, action="slow")
    await claim(world, waiting, running)
    assert await finish(world, waiting, "requested", outcome="failed", delay=60.0) is Status.REQUESTED
    await fall_due(world, "total")
    await timers(context)
    assert await world.statuses([waiting, running]) == ["timed_out", "cancelling"]
    # A retry is none any more; what the attempt said of itself stays.
    told = {"class": "RuntimeError", "message": "x"}
    ended = await finish(world, running, "requested", outcome="failed", error=json.dumps(told))
    assert (ended, json.loads((await row(world, running))["error"])) == (Status.TIMED_OUT, told)
    assert await world.tx.fetchval("SELECT count(*) FROM timer") == 0


async def test_work_that_finished_before_it_was_told_of_its_deadline_stays_completed(
    world: World, context: Context
) -> None:
    await world.register("slow", timeout={"total": "1h"})
    (identity,) = await world.submit(action="slow")
    await claim(world, identity)
    await fall_due(world, "total")
    await timers(context)
    assert await finish(world, identity, "completed", result="1") is Status.COMPLETED
    assert (await row(world, identity))["error"] is None


@pytest.mark.parametrize(("outcome", "end"), [("failed", Status.FAILED), ("timed_out", Status.TIMED_OUT)])
async def test_a_retry_that_would_begin_after_the_deadline_is_given_up_at_once(
    world: World, outcome: str, end: Status
) -> None:
    await world.register("slow", timeout={"total": "1h"}, retry={"max_attempts": 9})
    soon, late = await world.submit(2, action="slow")
    await claim(world, soon, late)
    told = json.dumps({"class": "RuntimeError", "message": "x"})
    assert await finish(world, soon, "requested", outcome=outcome, delay=3500.0, error=told) is Status.REQUESTED
    assert await finish(world, late, "requested", outcome=outcome, delay=3600.0, error=told) is end
    found = await row(world, late)
    assert (json.loads(found["error"]), found["failures"], found["not_before"]) == (json.loads(told), 1, None)
    assert found["finished_at"] is not None
    assert await last_reason(world, late) == f"{outcome}, and a retry would begin after the deadline"
    assert (await timer(world, "total")).keys() == {soon}


async def test_what_is_handed_back_goes_on_until_its_deadline(world: World) -> None:
    await world.register("slow", timeout={"total": "1h"})
    (identity,) = await world.submit(action="slow")
    await claim(world, identity)
    await world.tx.execute("UPDATE execution SET deadline = now() - interval '1 second'")
    assert await finish(world, identity, "requested", outcome="handed_back") is Status.REQUESTED


async def test_a_cancel_ends_cancelled_whatever_words_its_reason_has(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    await world.admit(decide={identity: "cancelled"}, reason="timed_out, says the customer")
    told = await world.tx.fetchval("SELECT cancel_reason FROM execution WHERE id = $1", identity)
    assert told == "cancelled: timed_out, says the customer"
    assert await finish(world, identity, "cancelled") is Status.CANCELLED
