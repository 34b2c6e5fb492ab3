"""What a worker's statements refuse: another attempt, another worker, an ended lease, what may not be handed out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from interlock.contract.status import Status
from tests.attempts import WORKER, claim, finish
from worker import store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from tests.world import World

# How an incarnation can be over: its lease ended, or somebody closed it although its lease would go on.
ENDS = ["lease_expires_at = now() - interval '1 hour'", "ended_at = now()"]


async def claim_as(world: World, worker: UUID, *offers: tuple[UUID, int]) -> set[UUID]:
    """Claim these attempts as one worker; return what it got."""
    claimed = await store.claim(world.tx, worker, offers, WORKER)
    return {row["id"] for row in claimed.claimed}


async def from_table(
    world: World, worker: UUID, *, pool: str = "default", most: int = 10, older: float = -1
) -> set[UUID]:
    """Claim from the table as one worker; return what it got."""
    claimed = await store.claim_from_table(world.tx, worker, pool=pool, most=most, older=older, actor=WORKER)
    return {row["id"] for row in claimed.claimed}


async def finish_as(world: World, worker: UUID, identity: UUID, attempt: int, target: str) -> set[UUID]:
    """End one attempt as one worker; return what moved."""
    end = store.Finish(
        id=identity,
        action="job",
        attempt=attempt,
        target=target,
        outcome=target,
        result=f'"{attempt}"',
        error=None,
        error_class=None,
        error_text=None,
        fingerprint=None,
        exit_code=None,
        delay=0.0,
        started_at=datetime.now(UTC),
    )
    async with world.tx.transaction():
        moved, _ = await store.finish(world.tx, worker, [end], WORKER)
    return set(moved)


async def standing(world: World, identity: UUID) -> tuple[str, int, UUID | None, str | None]:
    """Return the status, the attempt, the holder and the result of one execution."""
    row = await world.tx.fetchrow(
        "SELECT status::text, attempt, worker_id, result::text FROM execution WHERE id = $1", identity
    )
    assert row is not None
    return row["status"], row["attempt"], row["worker_id"], row["result"]


async def outcomes(world: World, identity: UUID) -> list[tuple[int, str]]:
    """Return the remembered attempts of one execution."""
    rows = await world.tx.fetch(
        "SELECT attempt, outcome FROM execution_attempt WHERE execution_id = $1 ORDER BY attempt", identity
    )
    return [(row["attempt"], row["outcome"]) for row in rows]


async def next_attempt(world: World, identity: UUID) -> None:
    """Claim the first attempt and hand it back, so that the second one is dispatched."""
    assert (await claim(world, identity)).keys() == {identity}
    assert await finish(world, identity, "requested", outcome="handed_back") is Status.REQUESTED
    await world.admit(entering=[identity])


async def test_a_message_about_another_attempt_claims_nothing(world: World) -> None:
    (identity,) = await world.submit()
    await next_attempt(world, identity)
    assert await claim_as(world, world.hand, (identity, 1)) == set()
    assert await claim_as(world, world.hand, (identity, 3)) == set()
    assert await standing(world, identity) == ("scheduled", 2, None, None)
    assert await claim_as(world, world.hand, (identity, 2)) == {identity}


async def test_what_is_not_dispatched_is_claimed_by_nobody(world: World) -> None:
    await world.limit("action:job", 3)
    running, ended, cancelled, waiting = await world.submit(4)
    await claim(world, running, ended)
    await finish(world, ended, "completed")
    await world.limit("action:job", 0)
    await world.admit(decide={cancelled: "cancelled"})
    other = await world.worker()
    before = [await standing(world, identity) for identity in (running, ended, cancelled, waiting)]
    assert await claim_as(world, other, (running, 1), (ended, 1), (cancelled, 1), (waiting, 0), (waiting, 1)) == set()
    assert await from_table(world, other) == set()
    assert [await standing(world, identity) for identity in (running, ended, cancelled, waiting)] == before


async def test_what_is_paused_is_claimed_neither_by_message_nor_from_the_table(world: World) -> None:
    (identity,) = await world.submit()
    await world.tx.execute("UPDATE execution SET paused_at = now() WHERE id = $1", identity)
    assert await claim_as(world, world.hand, (identity, 1)) == set()
    assert await from_table(world, world.hand) == set()
    await world.tx.execute("UPDATE execution SET paused_at = NULL WHERE id = $1", identity)
    assert await claim_as(world, world.hand, (identity, 1)) == {identity}


@pytest.mark.parametrize("end", ENDS)
async def test_a_worker_whose_lease_or_life_has_ended_claims_nothing(world: World, end: str) -> None:
    by_message, by_table = await world.submit(2)
    gone = await world.worker()
    await world.tx.execute(f"UPDATE worker SET {end} WHERE id = $1", gone)  # noqa: S608 - our words
    assert await claim_as(world, gone, (by_message, 1)) == set()
    assert await from_table(world, gone) == set()
    assert await from_table(world, world.hand) == {by_message, by_table}


async def test_the_table_gives_the_oldest_of_the_own_pool_that_waited_long_enough(world: World) -> None:
    await world.register("elsewhere", pool="elsewhere")
    await world.worker("elsewhere")
    (other,) = await world.submit(action="elsewhere")
    first, second, third, fresh = await world.submit(4)
    for identity, seconds in ((other, 40), (first, 30), (second, 20), (third, 10)):
        await world.tx.execute(
            "UPDATE in_flight SET since = now() - $2 * interval '1 second' WHERE execution_id = $1", identity, seconds
        )
    assert await from_table(world, world.hand, older=5, most=2) == {first, second}
    assert await from_table(world, world.hand, older=5) == {third}
    assert await from_table(world, world.hand, older=5) == set()
    assert await world.statuses([fresh, other]) == ["scheduled", "scheduled"]


async def test_a_claim_from_the_table_passes_over_what_somebody_is_taking(world: World) -> None:
    first, second = await world.submit(2)
    await world.tx.execute("SET lock_timeout = '5s'")
    async with world.another() as other, other.tx.transaction():
        await other.tx.execute("SELECT 1 FROM execution WHERE id = $1 FOR UPDATE", first)
        assert await from_table(world, world.hand) == {second}


async def test_an_end_of_a_former_attempt_moves_nothing_and_is_kept(world: World) -> None:
    (identity,) = await world.submit()
    await next_attempt(world, identity)
    assert await claim_as(world, world.hand, (identity, 2)) == {identity}
    assert await finish_as(world, world.hand, identity, 1, "completed") == set()
    assert await standing(world, identity) == ("running", 2, world.hand, None)
    # What was said of the first attempt when it ended stays.
    assert await outcomes(world, identity) == [(1, "handed_back")]
    assert await finish_as(world, world.hand, identity, 2, "completed") == {identity}
    assert await standing(world, identity) == ("completed", 2, world.hand, '"2"')


async def test_an_end_by_a_worker_that_does_not_hold_the_attempt_moves_nothing_and_is_kept_as_late(
    world: World,
) -> None:
    (identity,) = await world.submit()
    stranger = await world.worker()
    await claim(world, identity)
    assert await finish_as(world, stranger, identity, 1, "completed") == set()
    assert await standing(world, identity) == ("running", 1, world.hand, None)
    assert await outcomes(world, identity) == [(1, "late")]


async def test_a_second_end_of_an_attempt_changes_neither_the_row_nor_what_is_remembered(world: World) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    assert await finish_as(world, world.hand, identity, 1, "failed") == {identity}
    before = await world.tx.fetchrow("SELECT *, status::text AS status FROM execution WHERE id = $1", identity)
    assert await finish_as(world, world.hand, identity, 1, "completed") == set()
    assert await world.tx.fetchrow("SELECT *, status::text AS status FROM execution WHERE id = $1", identity) == before
    assert await outcomes(world, identity) == [(1, "failed")]


async def test_a_worker_does_not_cancel_what_nobody_asked_it_to_cancel(world: World) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    assert await finish_as(world, world.hand, identity, 1, "cancelled") == set()
    assert (await standing(world, identity))[0] == "running"
    await world.admit(decide={identity: "cancelled"})
    assert await finish_as(world, world.hand, identity, 1, "cancelled") == {identity}
    assert (await standing(world, identity))[0] == "cancelled"


async def renew(world: World, worker: UUID, *held: tuple[UUID, int]) -> asyncpg.Record:
    return await store.renew(world.tx, worker, 7200.0, held)


async def lease_left(world: World, worker: UUID) -> float:
    """Return the seconds until a lease ends, rounded to a minute."""
    left: float = await world.tx.fetchval(
        "SELECT extract(epoch FROM lease_expires_at - now())::float8 FROM worker WHERE id = $1", worker
    )
    return round(left / 60) * 60


@pytest.mark.parametrize("end", ENDS)
async def test_a_lease_that_has_ended_is_never_renewed(world: World, end: str) -> None:
    other = await world.worker()
    await world.tx.execute(f"UPDATE worker SET {end} WHERE id = $1", other)  # noqa: S608 - our words
    before = await lease_left(world, other)
    assert (await renew(world, other))["draining"] is None
    assert await lease_left(world, other) == before
    assert (await renew(world, world.hand))["draining"] is False
    assert await lease_left(world, world.hand) == 7200


async def test_a_renewal_tells_what_is_held_without_knowing_what_is_to_stop_and_what_is_gone(world: World) -> None:
    unknown, known, stopping, gone, older = ids = await world.submit(5)
    await next_attempt(world, older)
    other = await world.worker()
    assert await claim_as(world, world.hand, *((identity, 1) for identity in (unknown, known, stopping))) == set(
        ids[:3]
    )
    assert await claim_as(world, other, (gone, 1)) == {gone}
    assert await claim_as(world, world.hand, (older, 2)) == {older}
    await world.admit(decide={stopping: "cancelled", gone: "cancelled"})
    answer = await renew(world, world.hand, (known, 1), (stopping, 1), (gone, 1), (older, 1))
    assert [tuple(each) for each in answer["unknown"]] == [(unknown, 1)]
    assert answer["cancelled"] == [stopping]
    assert sorted(answer["gone"]) == sorted([gone, older])


async def ended_at(world: World, workers: Sequence[UUID]) -> list[datetime | None]:
    rows = {row["id"]: row["ended_at"] for row in await world.tx.fetch("SELECT id, ended_at FROM worker")}
    return [rows[worker] for worker in workers]


async def test_retiring_closes_one_incarnation_and_only_once(world: World) -> None:
    other = await world.worker()
    await store.retire(world.tx, other)
    first, hand = await ended_at(world, [other, world.hand])
    assert first is not None
    assert hand is None
    assert await lease_left(world, other) == 0
    await store.retire(world.tx, other)
    assert await ended_at(world, [other, world.hand]) == [first, None]


async def test_draining_is_said_of_one_incarnation_and_the_renewal_repeats_it(world: World) -> None:
    other = await world.worker()
    await store.start_draining(world.tx, other)
    assert (await renew(world, other))["draining"] is True
    assert (await renew(world, world.hand))["draining"] is False
