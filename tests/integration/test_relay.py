"""The relay, with a real broker: what is published, what is deleted, and what is left alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from interlock.adapters.lifecycle import end_all
from interlock.client.store import give_up_claim
from tests.eventually import eventually

if TYPE_CHECKING:
    from tests.wire import Wire
    from tests.world import World

STATUS = ("status", "execution.status_changed.running.leaf")
BODY = '{"any": "text"}'


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
