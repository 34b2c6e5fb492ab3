"""The lease as a worker keeps it: never renewed once it ended, and nothing handed back that may still be its own."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from interlock.acceptance.store import force
from interlock.adapters.amqp import Session
from interlock.adapters.health import Readiness
from interlock.adapters.lifecycle import Stop
from interlock.adapters.outbox import Relay
from interlock.adapters.postgres import open_pool
from interlock.adapters.telemetry import Metrics
from interlock.contract.topology import Topology
from tests.attempts import WORKER, claim
from tests.eventually import eventually
from tests.world import ACTOR
from worker import store
from worker.finish import Finisher
from worker.heartbeat import BEAT, Heartbeat
from worker.holdings import Holding, Holdings
from worker.lease import Lease, LeaseLost
from worker.runners.grace import Grace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.world import World

OFTEN = 0.5
ONCE = 60.0


class Kept:
    """What a worker's service wires together for its lease, and the guardian's end of the heartbeat."""

    def __init__(self, lease: Lease, finisher: Finisher, holdings: Holdings, stop: Stop, beats: int) -> None:
        self.lease, self.finisher, self.holdings, self.stop = lease, finisher, holdings, stop
        self._beats, self._heard = beats, 0
        self.newest = 0.0
        """When the newest good renewal was sent, by the clock of the heartbeat."""

    def hold(self, identity: UUID) -> Holding:
        holding = Holding(id=identity, attempt=1, started_at=datetime.now(UTC))
        self.holdings.add(holding)
        return holding

    def heard(self) -> int:
        """Return how many good renewals were told; each one's answer was followed before anybody else had a turn."""
        with suppress(BlockingIOError):
            for sent, _ in BEAT.iter_unpack(os.read(self._beats, BEAT.size * 512)):
                self.newest, self._heard = sent, self._heard + 1
        return self._heard

    async def renewed(self, times: int) -> None:
        await eventually(lambda: self.heard() >= times, timeout=30)


@pytest.fixture
async def wired(world: World) -> AsyncIterator[Kept]:
    """A lease that is renewed often; there is no broker."""
    async with wired_with(world, OFTEN) as kept:
        yield kept


@asynccontextmanager
async def wired_with(world: World, renew: float) -> AsyncIterator[Kept]:
    pool = await open_pool(world.url, application="test", size=2)
    metrics, readiness, holdings, stop = Metrics(), Readiness(), Holdings(10), Stop()
    relay = Relay(pool, Session("amqp://nowhere/", Topology(), "test", readiness), "worker", metrics, 1.0)
    finisher = Finisher(world.hand, WORKER, pool=pool, relay=relay, holdings=holdings, metrics=metrics)
    beats, writer = os.pipe2(os.O_NONBLOCK)
    lease = Lease(
        world.hand,
        pool=pool,
        length=3600.0,
        renew=renew,
        holdings=holdings,
        finisher=finisher,
        heartbeat=Heartbeat(writer, 15),
        stop=stop,
        readiness=readiness,
        clock=lambda: datetime.now(UTC),
    )
    yield Kept(lease, finisher, holdings, stop, beats)
    await pool.close()
    os.close(beats)
    os.close(writer)


@asynccontextmanager
async def kept(wired: Kept) -> AsyncIterator[None]:
    """Let the lease and the finisher live."""
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(wired.lease.run()), group.create_task(wired.finisher.run())]
        yield
        for life in lives:
            life.cancel()


async def finisher_is_through(world: World, wired: Kept, identity: UUID) -> None:
    """Hand over one more end and wait until it is written: whatever was handed over before it is written by then."""
    wired.finisher.put(
        store.Finish(
            id=identity,
            action="job",
            attempt=1,
            target="completed",
            outcome="completed",
            result="1",
            error=None,
            error_class=None,
            error_text=None,
            fingerprint=None,
            exit_code=None,
            delay=0.0,
            started_at=datetime.now(UTC),
        )
    )

    async def written() -> bool:
        return await world.statuses([identity]) == ["completed"]

    await eventually(written)


async def test_what_the_table_gives_and_nobody_knows_of_is_handed_back_the_second_time(
    world: World, wired: Kept
) -> None:
    (unknown,) = await world.submit()
    await claim(world, unknown)

    async def handed_back() -> bool:
        return await world.statuses([unknown]) == ["requested"]

    async with kept(wired):
        await eventually(handed_back)
    rows = await world.tx.fetch("SELECT attempt, outcome FROM execution_attempt WHERE execution_id = $1", unknown)
    assert [tuple(row) for row in rows] == [(1, "handed_back")]


async def test_what_is_unknown_the_first_time_may_be_on_its_way(world: World) -> None:
    unknown, other = await world.submit(2)
    await claim(world, unknown, other)
    async with wired_with(world, ONCE) as wired, kept(wired):
        wired.hold(other)
        await wired.renewed(1)
        await finisher_is_through(world, wired, other)
    assert await world.statuses([unknown]) == ["running"]


async def test_nothing_is_unknown_while_a_claim_is_under_way(world: World, wired: Kept) -> None:
    unknown, other = await world.submit(2)
    await claim(world, unknown, other)
    async with kept(wired):
        wired.hold(other)
        with wired.holdings.claim():
            await wired.renewed(3)
            await finisher_is_through(world, wired, other)
    assert await world.statuses([unknown]) == ["running"]


async def test_what_was_entered_meanwhile_is_kept(world: World, wired: Kept) -> None:
    known, other = await world.submit(2)
    await claim(world, known, other)
    held = wired.hold(known)
    async with kept(wired):
        wired.hold(other)
        await wired.renewed(3)
        await finisher_is_through(world, wired, other)
    assert (await world.statuses([known]), held.ending) == (["running"], None)


async def test_the_answer_of_a_renewal_stops_what_is_cancelled_and_what_is_ours_no_more(
    world: World, wired: Kept
) -> None:
    stopping, gone = await world.submit(2)
    await claim(world, stopping)
    await world.admit(decide={stopping: "cancelled"})
    told, lost = wired.hold(stopping), wired.hold(gone)
    told.grace = Grace(1000)
    async with kept(wired):
        await wired.renewed(1)
    assert (told.ending, lost.ending, wired.stop.draining) == ("cancelled", "gone", False)
    assert told.grace.seconds == 1000
    await force(world.tx, [stopping], ACTOR)
    async with kept(wired):
        await wired.renewed(2)
    assert told.grace.seconds == 0


async def test_a_drain_that_was_asked_of_the_row_begins_with_the_next_renewal(world: World, wired: Kept) -> None:
    await store.start_draining(world.tx, world.hand)
    async with kept(wired):
        await wired.renewed(1)
    assert wired.stop.draining


async def test_a_lease_that_has_ended_ends_its_incarnation_and_is_not_told_as_good(world: World, wired: Kept) -> None:
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second'")
    async with asyncio.timeout(30):
        with pytest.raises(LeaseLost):
            await wired.lease.run()
    assert wired.heard() == 0


async def waits_for_a_lock(world: World) -> bool:
    found: bool = await world.tx.fetchval(
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found


async def test_a_renewal_counts_from_when_it_was_sent_and_not_from_its_answer(world: World) -> None:
    async with wired_with(world, ONCE) as wired, world.another() as other, kept(wired):
        async with other.tx.transaction():
            await other.tx.execute("SELECT 1 FROM worker WHERE id = $1 FOR UPDATE", world.hand)
            await eventually(lambda: waits_for_a_lock(world))
            under_way = time.clock_gettime(time.CLOCK_BOOTTIME)
        await wired.renewed(1)
    assert wired.newest < under_way
