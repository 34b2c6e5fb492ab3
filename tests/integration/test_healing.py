"""What the executor's loops and its catching up refuse: what lives, what has time left, what somebody else moved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from executor import store
from executor.loops.reaper import FEW_WORKERS, GAP_SECONDS, Reaper
from executor.loops.reconciler import reconciler
from executor.loops.timers import timers
from interlock.acceptance.store import bury
from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.eventually import eventually
from tests.world import ACTOR, fresh_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from executor.loops.periodic import Context
    from tests.world import World

JOB = "action:job"
LEASE = 25.0
PERIOD = 3.0


def told(world: World, identity: UUID, source: str, target: str, attempt: int = 1) -> store.LostMove:
    """Make the move of a worker that its message tells."""
    actor = f"/worker/{world.hand}"
    return store.LostMove(id=identity, attempt=attempt, source=Status(source), target=Status(target), actor=actor)


async def holder(world: World, identity: UUID) -> tuple[UUID | None, UUID | None]:
    """Return who holds an execution by its row and by its place in flight."""
    row = await world.tx.fetchrow(
        "SELECT e.worker_id, f.worker_id AS flying FROM execution e LEFT JOIN in_flight f ON f.execution_id = e.id"
        " WHERE e.id = $1",
        identity,
    )
    assert row is not None
    return row["worker_id"], row["flying"]


async def end_leases(world: World, *workers: UUID) -> None:
    await world.tx.execute(
        "UPDATE worker SET lease_expires_at = now() - interval '1 second' WHERE id = ANY($1)", list(workers)
    )


async def look(world: World) -> store.Tick:
    return await store.tick(world.tx, gap_seconds=GAP_SECONDS, lease_seconds=LEASE, few_workers=FEW_WORKERS)


async def closed(world: World) -> set[UUID]:
    return {row["id"] for row in await world.tx.fetch("SELECT id FROM worker WHERE ended_at IS NOT NULL")}


async def test_a_move_that_a_failover_lost_is_made_again_once_and_under_the_name_of_its_worker(world: World) -> None:
    (identity,) = await world.submit()
    messages, moved = await store.catch_up(world.tx, [told(world, identity, "scheduled", "running")])
    assert moved == [identity]
    assert [message["exchange"] for message in messages] == ["status"]
    assert await holder(world, identity) == (world.hand, world.hand)
    assert await store.catch_up(world.tx, [told(world, identity, "scheduled", "running")]) == ([], [])
    assert (await store.catch_up(world.tx, [told(world, identity, "running", "completed")]))[1] == [identity]
    rows = await world.tx.fetch("SELECT target::text, actor FROM execution_transition WHERE move > 1 ORDER BY move")
    assert [tuple(row) for row in rows] == [(target, f"/worker/{world.hand}") for target in ("running", "completed")]
    # The completion is still a worker's to publish.
    assert await world.tx.fetchval("SELECT role FROM outbox WHERE exchange = 'completions'") == "worker"
    kept = await world.tx.fetch("SELECT execution_id, attempt, outcome, worker_id FROM execution_attempt")
    assert [tuple(row) for row in kept] == [(identity, 1, "completed", world.hand)]


async def test_what_came_back_by_a_lost_move_is_nobodys(world: World) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    assert (await store.catch_up(world.tx, [told(world, identity, "running", "requested")]))[1] == [identity]
    assert await holder(world, identity) == (None, None)


async def test_a_lost_move_of_another_attempt_or_from_elsewhere_is_not_made(world: World) -> None:
    (identity,) = await world.submit()
    lost = [
        told(world, identity, "scheduled", "running", attempt=2),
        told(world, identity, "running", "completed"),
        told(world, fresh_id(), "scheduled", "running"),
    ]
    for move in lost:
        assert await store.catch_up(world.tx, [move]) == ([], [])
    assert await world.statuses([identity]) == ["scheduled"]


async def test_only_what_an_ended_lease_holds_is_lost(world: World) -> None:
    alive, lost, cancelling, dispatched, ended = await world.submit(5)
    gone = await world.worker()
    assert await world.claim(world.hand, alive) == 1
    assert await world.claim(gone, lost, cancelling, ended) == 3
    assert await world.finish(gone, ended) == 1
    await world.admit(decide={cancelling: "cancelled"})
    assert await store.lost_executions(world.tx) == []
    await end_leases(world, gone)
    found = await store.lost_executions(world.tx)
    assert [(row["execution_id"], row["status"], row["worker_id"]) for row in found] == sorted(
        [(lost, "running", gone), (cancelling, "cancelling", gone)]
    )
    assert await world.statuses([dispatched]) == ["scheduled"]


async def test_an_incarnation_is_closed_once_when_its_lease_has_ended_and_it_holds_nothing(world: World) -> None:
    (identity,) = await world.submit()
    holding, idle = await world.worker(), await world.worker()
    assert await world.claim(holding, identity) == 1
    assert await store.end_workers(world.tx) == []
    await end_leases(world, holding, idle)
    assert [row["id"] for row in await store.end_workers(world.tx)] == [idle]
    assert await store.end_workers(world.tx) == []
    assert await closed(world) == {idle}


async def test_slots_leak_only_from_what_ended_some_seconds_ago(world: World) -> None:
    await world.limit(JOB, 2)
    running, ended = await world.submit(2)
    await world.claim(world.hand, running, ended)
    assert await world.finish(world.hand, ended) == 1
    assert await store.leaked_slots(world.tx) == []
    await world.tx.execute("UPDATE execution SET finished_at = now() - interval '3 seconds' WHERE id = $1", ended)
    assert await store.leaked_slots(world.tx) == [ended]


async def set_timer(world: World, identity: UUID, kind: str, seconds: float) -> None:
    await world.tx.execute(
        "INSERT INTO timer (execution_id, kind, due) VALUES ($1, $2, now() + $3 * interval '1 second')"
        " ON CONFLICT (execution_id, kind) DO UPDATE SET due = excluded.due",
        identity,
        kind,
        seconds,
    )


async def test_a_timer_fires_when_it_is_due_and_its_execution_is_not_paused(world: World) -> None:
    due, later, paused = await world.submit(3)
    for identity, seconds in ((due, -1), (later, 60), (paused, -2)):
        await set_timer(world, identity, "total", seconds)
    await world.tx.execute("UPDATE execution SET paused_at = now() WHERE id = $1", paused)
    assert [tuple(row) for row in await store.due_timers(world.tx)] == [(due, "total", 1)]
    await world.tx.execute("UPDATE execution SET paused_at = NULL")
    assert [row["execution_id"] for row in await store.due_timers(world.tx)] == [paused, due]


async def test_a_timer_is_forgotten_when_it_did_its_work_and_not_when_it_was_set_anew_or_has_its_work_to_do(
    world: World,
) -> None:
    done, anew, entered = await world.submit(3)
    await world.limit(JOB, 0)
    (waiting,) = await world.submit(not_before="2099-01-01T00:00:00Z")
    for identity in (done, anew):
        await set_timer(world, identity, "total", -1)
    for identity in (entered, waiting):
        await set_timer(world, identity, "enter", -1)
    due = await store.due_timers(world.tx)
    assert len(due) == 4
    await set_timer(world, anew, "total", 60)
    await store.forget_timers(world.tx, due)
    left = {row["execution_id"] for row in await world.tx.fetch("SELECT execution_id FROM timer")}
    assert left == {anew, waiting}


async def test_what_was_dispatched_goes_back_only_where_nobody_will_start_it(world: World) -> None:
    """A full pool is only busy, an idle one has lost the message or its workers, a paused one takes all back."""

    async def stranded() -> list[UUID]:
        return [row["execution_id"] for row in await store.stranded_executions(world.tx)]

    await world.tx.execute("UPDATE worker SET capacity = 1")
    taken, waiting = await world.submit(2)
    await claim(world, taken)
    await world.tx.execute("UPDATE in_flight SET since = now() - interval '1 hour'")
    assert await stranded() == []
    await world.tx.execute("UPDATE worker SET capacity = 2")
    assert await stranded() == [waiting]
    await world.tx.execute("UPDATE in_flight SET since = now()")
    assert await stranded() == []
    await world.limit("default", None, paused=True, scope="pool")
    assert await stranded() == [waiting]
    await world.limit("default", None, scope="pool")
    await world.tx.execute("UPDATE in_flight SET since = now() - interval '1 hour'")
    await end_leases(world, world.hand)
    assert await stranded() == [waiting]


async def test_a_pool_whose_leases_have_ended_is_given_nothing(world: World) -> None:
    await end_leases(world, world.hand)
    (waiting,) = await world.submit()
    assert await world.statuses([waiting]) == ["requested"]
    await world.worker(capacity=1)
    await world.admit_on([(await world.key("default", "pool"))["id"]])
    assert await world.statuses([waiting]) == ["scheduled"]


async def test_a_completion_is_answered_with_where_the_row_stood_before_it(world: World) -> None:
    (free,) = await world.submit()
    await world.run(world.hand, free)
    await world.limit(JOB, 1)
    ended, waiting = await world.submit(2)
    await world.run(world.hand, ended)

    async def complete(
        *ids: UUID, status: Status = Status.COMPLETED, attempt: int = 1, epoch: int = 1
    ) -> tuple[dict[int, store.Standing | None], int, int]:
        told = [(identity, status, attempt, epoch) for identity in ids]
        async with world.tx.transaction():
            elsewhere, admission = await store.complete(world.tx, ACTOR, told)
        return elsewhere, admission.released, admission.admitted

    holding = store.Standing(Status.COMPLETED, 1, 1, holds=True, limited=True)
    assert await complete(ended, fresh_id()) == ({1: holding, 2: None}, 1, 1)
    assert await complete(ended) == ({1: holding._replace(holds=False)}, 0, 0)
    # What holds a slot and has not ended keeps it, whatever was said.
    running = store.Standing(Status.SCHEDULED, 1, 1, holds=True, limited=True)
    assert await complete(waiting, ended) == ({1: running, 2: holding._replace(holds=False)}, 0, 0)
    await world.limit(JOB, None)
    # Of what stands as told, and has no limit, nothing needs to be told.
    assert await complete(free, free) == ({}, 0, 0)
    standing = store.Standing(Status.COMPLETED, 1, 1, holds=False, limited=False)
    assert await complete(free, status=Status.FAILED) == ({1: standing}, 0, 0)
    assert await complete(free, attempt=2) == ({1: standing}, 0, 0)
    assert await complete(free, epoch=2) == ({1: standing}, 0, 0)
    (unlimited,) = await world.submit()
    dispatched = store.Standing(Status.SCHEDULED, 1, 1, holds=False, limited=False)
    assert await complete(unlimited, status=Status.SCHEDULED) == ({1: dispatched}, 0, 0)


async def test_a_claimed_key_is_looked_at_while_it_has_room(world: World) -> None:
    await world.limit(JOB, 1)
    await world.submit()
    key = (await world.key())["id"]
    transaction = world.tx.transaction()
    await transaction.start()
    await world.tx.execute("UPDATE queue SET claim_lane = 1, claim_prio = 0, claim_seq = 1 WHERE id = $1", key)
    assert await store.claimed_keys(world.tx) == []
    for change, wanted in (("lim = 2", [key]), ("paused = true", []), ("paused = false, lim = NULL", [key])):
        await world.tx.execute(f"UPDATE queue SET {change} WHERE id = $1", key)  # noqa: S608 - our words
        assert await store.claimed_keys(world.tx) == wanted
    await world.tx.execute("UPDATE queue SET claim_lane = NULL")
    assert await store.claimed_keys(world.tx) == []
    await transaction.rollback()


async def test_after_a_gap_in_all_looks_there_is_one_lease_of_observing_and_no_more(world: World) -> None:
    async def tick(since: float, until: float | None) -> bool:
        await world.tx.execute(
            "UPDATE reaper_tick SET ticked_at = now() - $1 * interval '1 second',"
            " observe_until = now() + $2 * interval '1 second'",
            since,
            until,
        )
        return (await look(world)).observing

    async def observes_for() -> float:
        left: float = await world.tx.fetchval(
            "SELECT extract(epoch FROM observe_until - ticked_at)::float8 FROM reaper_tick"
        )
        return left

    assert await tick(14, None) is False
    assert await tick(16, None) is True
    assert await observes_for() == LEASE
    # Another look within that time observes as well and does not begin it anew.
    assert (await look(world)).observing is True
    assert await observes_for() < LEASE
    assert await tick(1, -1) is False


async def test_a_reaper_that_observes_declares_nothing_lost_and_closes_nobody(world: World, context: Context) -> None:
    (identity,) = await world.submit()
    gone, idle, *_ = [await world.worker() for _ in range(5)]
    assert await world.claim(gone, identity) == 1
    await end_leases(world, gone, idle)
    reaper = Reaper(LEASE, period_seconds=PERIOD)
    await world.tx.execute("UPDATE reaper_tick SET ticked_at = now() - interval '20 seconds'")
    await reaper(context)
    assert (await world.statuses([identity]), await closed(world)) == (["running"], set())
    await world.tx.execute("UPDATE reaper_tick SET observe_until = now() - interval '1 second'")
    await reaper(context)
    assert (await world.statuses([identity]), await closed(world)) == (["scheduled"], {gone, idle})
    row = await world.tx.fetchrow("SELECT failures, losses, attempt FROM execution WHERE id = $1", identity)
    assert row is not None
    assert tuple(row) == (0, 1, 2)


@pytest.mark.parametrize(
    ("period", "since", "observes"), [(3, 14, False), (3, 16, True), (30, 31, False), (30, 151, True)]
)
async def test_a_reaper_that_looks_seldom_takes_its_own_pause_for_no_gap(
    world: World, context: Context, period: float, since: float, *, observes: bool
) -> None:
    await end_leases(world, world.hand)
    await world.tx.execute("UPDATE reaper_tick SET ticked_at = now() - $1 * interval '1 second'", since)
    await Reaper(LEASE, period_seconds=period)(context)
    assert await closed(world) == (set() if observes else {world.hand})


@pytest.mark.parametrize(
    ("workers", "expired", "brakes"), [(3, 3, False), (4, 1, False), (4, 2, True), (6, 2, False), (6, 3, True)]
)
async def test_more_than_a_third_of_more_than_three_workers_is_too_many_at_once(
    world: World, workers: int, expired: int, *, brakes: bool
) -> None:
    standing = [world.hand, *[await world.worker() for _ in range(workers - 1)]]
    retired = await world.worker()
    await world.tx.execute("UPDATE worker SET ended_at = now() WHERE id = $1", retired)
    await end_leases(world, retired, *standing[:expired])
    await world.tx.execute("UPDATE reaper_tick SET suspected_at = NULL")
    assert (await look(world))[1:] == (brakes, brakes, workers, expired)


async def test_when_too_many_leases_end_at_once_nobody_is_lost_before_a_second_look_one_lease_later(
    world: World, context: Context
) -> None:
    held = await world.submit(2)
    first, second, *_ = [await world.worker() for _ in range(3)]
    for worker, identity in zip((first, second), held, strict=True):
        await world.claim(worker, identity)
    await end_leases(world, first, second)

    async def pass_by(seconds: float) -> None:
        await world.tx.execute("UPDATE reaper_tick SET suspected_at = now() - $1 * interval '1 second'", seconds)
        await Reaper(LEASE, period_seconds=PERIOD)(context)

    with capture_logs() as lines:
        for _ in range(2):
            await Reaper(LEASE, period_seconds=PERIOD)(context)
        await pass_by(LEASE - 1)
    told = "many leases ended at once, so nobody is declared lost before a second look"
    assert [(line["event"], line["expired"], line["workers"]) for line in lines] == [(told, 2, 4)]
    assert context.metrics.registry.get_sample_value("interlock_reaper_brakes_total") == 1
    assert (await world.statuses(held), await closed(world)) == (["running"] * 2, set())
    await pass_by(LEASE + 1)
    assert (await world.statuses(held), await closed(world)) == (["scheduled"] * 2, {first, second})


async def test_too_many_at_once_are_forgotten_when_a_look_finds_fewer(world: World) -> None:
    others = [await world.worker() for _ in range(3)]
    await world.tx.execute("UPDATE reaper_tick SET suspected_at = now() - interval '1 minute'")
    await look(world)
    await end_leases(world, *others[:2])
    assert (await look(world)).noticed is True


async def test_a_reaper_takes_nothing_from_a_worker_that_lives(world: World, context: Context) -> None:
    running, cancelling = await world.submit(2)
    await world.claim(world.hand, running, cancelling)
    await world.admit(decide={cancelling: "cancelled"})
    await Reaper(LEASE, period_seconds=PERIOD)(context)
    assert (await world.statuses([running, cancelling]), await closed(world)) == (["running", "cancelling"], set())


async def test_a_cancel_that_crossed_with_its_request_is_honoured_and_one_without_its_request_waits(
    world: World, context: Context
) -> None:
    (crossed,) = await world.submit()
    early, expired = fresh_id(), fresh_id()
    for reason in ("not wanted", "asked again"):
        await bury(world.tx, {crossed: "a row stands already", early: reason}, ACTOR)
    assert await world.tx.fetchval("SELECT reason FROM cancel_tombstone") == "not wanted"
    buried = "SELECT execution_id FROM cancel_tombstone ORDER BY execution_id"
    assert [row[0] for row in await world.tx.fetch(buried)] == [early]
    await world.tx.execute(
        "INSERT INTO cancel_tombstone SELECT id, 'crossed', 'x', now() + seconds * interval '1 second'"
        " FROM unnest($1::uuid[], $2::int[]) t(id, seconds)",
        [crossed, expired],
        [60, -60],
    )
    await reconciler(context)
    assert await world.statuses([crossed]) == ["cancelled"]
    assert [row[0] for row in await world.tx.fetch(buried)] == [early]


async def meet(world: World, context: Context, do: Callable[[World], Awaitable[None]]) -> None:
    """Let the timers read what is due, then wait for a transaction that does `do` meanwhile."""
    async with world.another() as other:
        transaction = other.tx.transaction()
        await transaction.start()
        await do(other)
        async with asyncio.TaskGroup() as group:
            firing = group.create_task(timers(context))
            await eventually(lambda: waiting_for_a_lock(world))
            await transaction.commit()
        assert firing.done()


async def waiting_for_a_lock(world: World) -> bool:
    found: bool = await world.tx.fetchval(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found


async def test_a_queue_deadline_that_meets_an_admission_leaves_what_was_admitted(
    world: World, context: Context
) -> None:
    await world.register("slow", timeout={"queue": "1m"})
    await world.limit("action:slow", 0)
    (identity,) = await world.submit(action="slow")
    await set_timer(world, identity, "queue", -1)

    async def admit(other: World) -> None:
        await other.limit("action:slow", 1)

    await meet(world, context, admit)
    assert await world.statuses([identity]) == ["scheduled"]


async def test_a_run_deadline_that_meets_the_next_attempt_leaves_it_alone(world: World, context: Context) -> None:
    await world.register("bounded", timeout={"run": "1m"}, retry={"max_attempts": 2})
    await world.limit("action:bounded", 1)
    (identity,) = await world.submit(action="bounded")
    await claim(world, identity)
    await set_timer(world, identity, "run", -1)

    async def begin_again(other: World) -> None:
        other.hand = world.hand
        assert await finish(other, identity, "requested", outcome="failed") is Status.REQUESTED
        await other.admit(ended=[identity], entering=[identity])
        assert (await claim(other, identity, attempt=2)).keys() == {identity}

    await meet(world, context, begin_again)
    assert await world.statuses([identity]) == ["running"]
    assert await world.tx.fetchval("SELECT due > now() FROM timer WHERE kind = 'run'") is True
