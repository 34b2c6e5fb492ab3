"""The relay and the consumer, with a real broker: what is deleted, what is left alone, and when it is acknowledged."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from executor.consumers import Consumer
from executor.handlers.outgoing import Outgoing
from interlock.adapters.amqp import Session
from interlock.adapters.health import Readiness
from interlock.adapters.lifecycle import end_all
from interlock.adapters.outbox import Relay
from interlock.adapters.postgres import open_pool
from interlock.adapters.telemetry import Metrics
from interlock.client.store import give_up_claim
from interlock.contract import events
from interlock.contract.errors import Transient
from interlock.contract.topology import Topology
from tests.eventually import eventually
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aio_pika.abc import AbstractChannel
    from asyncpg import Pool

    from interlock.adapters.postgres import Tx
    from tests.world import World

STATUS = ("status", "execution.status_changed.running.leaf")
BODY = '{"any": "text"}'


class Wire:
    """A connected session, a pool, and the broker seen by its owner."""

    def __init__(self, pool: Pool[Any], session: Session, topology: Topology, channel: AbstractChannel) -> None:
        self.pool, self.session, self.topology, self.channel = pool, session, topology, channel
        self.metrics = Metrics()

    def relay(self, sweep_seconds: float = 1.0) -> Relay:
        return Relay(self.pool, self.session, "executor", self.metrics, sweep_seconds)

    async def waiting(self, queue: str) -> list[bytes]:
        """Take everything out of a queue."""
        found = []
        remote = await self.channel.get_queue(queue, ensure=False)
        while (message := await remote.get(fail=False, no_ack=True)) is not None:
            found.append(message.body)
        return found


@pytest.fixture
async def pool(world: World) -> AsyncIterator[Pool[Any]]:
    pool = await open_pool(world.url, application="test", size=3)
    yield pool
    await pool.close()


@pytest.fixture
async def wire(pool: Pool[Any], amqp_url: str, prefix: str) -> AsyncIterator[Wire]:
    topology = Topology(prefix)
    session = Session(amqp_url, topology, "test", Readiness())
    async with await aio_pika.connect(amqp_url) as connection:
        yield Wire(pool, session, topology, await connection.channel())
    await session.close()


async def put(
    world: World, route: tuple[str, str] = STATUS, *, role: str = "executor", claimed: float | None = None
) -> int:
    """Put one message into the outbox; `claimed` is for how many seconds somebody has taken it."""
    identity: int = await world.tx.fetchval(
        "INSERT INTO outbox (role, exchange, routing_key, events, body, claimed_until)"
        " VALUES ($1, $2, $3, 1, $4, now() + $5 * interval '1 second') RETURNING id",
        role,
        *route,
        BODY,
        claimed,
    )
    return identity


async def left(world: World) -> list[tuple[int, int, str | None]]:
    """Return what is in the outbox: id, tries, and why it could not be sent."""
    rows = await world.tx.fetch("SELECT id, tries, error FROM outbox ORDER BY id")
    return [(row["id"], row["tries"], row["error"]) for row in rows]


async def test_what_is_confirmed_is_deleted_and_what_nobody_takes_stays_and_backs_off(world: World, wire: Wire) -> None:
    await wire.session.start()
    await put(world)
    nobody = await put(world, ("requests", "nobody.listens"))
    await wire.relay().flush()
    assert await left(world) == [(nobody, 1, "requests/nobody.listens: no queue takes it")]
    assert await world.tx.fetchval("SELECT claimed_until > now() + interval '1 second' FROM outbox") is True
    # It is not its turn yet.
    await wire.relay().flush()
    assert await left(world) == [(nobody, 1, "requests/nobody.listens: no queue takes it")]
    assert await wire.waiting(wire.topology.status_queue.name) == [BODY.encode()]


async def test_a_message_that_may_not_have_arrived_stays(world: World, wire: Wire) -> None:
    await wire.session.start()
    await wire.channel.exchange_delete(wire.topology.dead.name)
    unknown = await put(world, ("dead", ""))
    await wire.relay().flush()
    assert await left(world) == [(unknown, 1, None)]
    assert not wire.session.connected


async def test_nothing_is_published_or_deleted_while_there_is_no_broker(world: World, wire: Wire) -> None:
    waiting = await put(world)
    relay = wire.relay()
    relay.offer(await world.tx.fetch("SELECT * FROM outbox"))
    await relay.flush()
    assert await left(world) == [(waiting, 0, None)]


async def test_a_sweep_leaves_alone_what_somebody_has_taken_and_what_is_anothers_to_publish(
    world: World, wire: Wire
) -> None:
    await wire.session.start()
    taken = await put(world, claimed=60)
    await put(world, claimed=-1)
    others = await put(world, role="worker")
    async with world.another() as other, other.tx.transaction():
        locked = await put(world)
        await other.tx.execute("SELECT 1 FROM outbox WHERE id = $1 FOR UPDATE", locked)
        async with asyncio.timeout(20):
            await wire.relay().flush()
    assert await left(world) == [(taken, 0, None), (others, 0, None), (locked, 0, None)]
    assert await wire.waiting(wire.topology.status_queue.name) == [BODY.encode()]


async def test_what_is_offered_is_published_before_a_sweep_would_find_it(world: World, wire: Wire) -> None:
    await wire.session.start()
    await put(world, claimed=60)
    relay = wire.relay()
    relay.offer(await world.tx.fetch("SELECT * FROM outbox"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(life) for life in (relay.publish_offered(), relay.clear())]

        async def gone() -> bool:
            return await left(world) == []

        await eventually(gone)
        await end_all(tasks)
    assert await wire.waiting(wire.topology.status_queue.name) == [BODY.encode()]


async def test_what_a_client_commits_is_published_at_once_and_waits_for_no_sweep(world: World, wire: Wire) -> None:
    await wire.session.start()
    relay = wire.relay(sweep_seconds=3600)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(life) for life in (relay.listen(), relay.sweep(), relay.clear())]
        await put(world)  # before it listens: the look at the beginning finds this

        async def gone() -> bool:
            return await left(world) == []

        await eventually(gone)
        async with world.tx.transaction():
            identity = await put(world, claimed=60)
            await give_up_claim(world.tx, await world.tx.fetch("SELECT * FROM outbox WHERE id = $1", identity))
        await eventually(gone)
        await end_all(tasks)
    assert await wire.waiting(wire.topology.status_queue.name) == [BODY.encode()] * 2


async def test_a_relay_that_lost_its_connection_listens_again(world: World, wire: Wire) -> None:
    await wire.session.start()
    relay = wire.relay(sweep_seconds=0.1)
    listening = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(relay.listen())

        async def heard() -> int | None:
            pid: int | None = await world.tx.fetchval(listening)
            return pid

        first = await eventually(heard)
        await world.tx.execute("SELECT pg_terminate_backend($1)", first)

        async def heard_again() -> bool:
            return await heard() not in (None, first)

        await eventually(heard_again)
        await end_all([task])


class Hand:
    """A handler that fails in passing so often, handles one request, and stops at the next one for ever."""

    def __init__(self, failures: int) -> None:
        self.stuck = asyncio.Event()
        self.failures = failures
        self.seen: list[str] = []

    async def __call__(self, tx: Tx, batch: Sequence[events.Requested]) -> Outgoing:
        del tx
        if self.failures:
            self.failures -= 1
            raise Transient("not now")
        self.seen += [event.data["id"] for event in batch]
        if len(self.seen) > 1:
            self.stuck.set()
            await asyncio.Event().wait()
        return Outgoing()


@asynccontextmanager
async def consuming(wire: Wire, hand: Hand) -> AsyncIterator[None]:
    subscription = wire.session.subscribe(wire.topology.requests_queue, prefetch=1)
    await wire.session.start()
    consumer = Consumer(
        subscription,
        {events.Requested: hand},
        pool=wire.pool,
        relay=wire.relay(),
        actor=ACTOR,
        metrics=wire.metrics,
        readiness=Readiness(),
    )
    async with asyncio.TaskGroup() as group:
        life = group.create_task(consumer.run())
        yield
        life.cancel()
    await wire.session.close()


@pytest.mark.parametrize("failures", [0, 2])
async def test_a_request_is_acknowledged_when_it_is_handled_and_not_before(wire: Wire, failures: int) -> None:
    hand = Hand(failures)
    wanted = [events.encode(events.requested("/test", [request()])) for _ in range(2)]
    async with consuming(wire, hand):
        exchange = await wire.channel.get_exchange(wire.topology.requests.name, ensure=False)
        for body, content_type in wanted:
            await exchange.publish(aio_pika.Message(body, content_type=content_type), "execution.requested")
        await asyncio.wait_for(hand.stuck.wait(), 20)
    # The first is done; what was being handled as the process died comes again.
    back: list[bytes] = []

    async def returned() -> bool:
        back.extend(await wire.waiting(wire.topology.requests_queue.name))
        return bool(back)

    await eventually(returned)
    assert back == [wanted[1][0]]
