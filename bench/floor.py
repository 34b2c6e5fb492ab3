"""Floors: what a bare aio-pika consumer and asyncpg do with one message and one update for each piece of work.

They decide nothing, keep no history and hold no limit. F1 commits and acknowledges each message by itself, F2 all that
has arrived since it last did; neither waits for a timer.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID, uuid4

import aio_pika
import asyncpg

from bench.latency import OpenLoop, open_loop
from bench.meter import Meter, servers
from bench.readings import Reading, named
from interlock.adapters.postgres import HOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

    from bench.stage import Stage
    from interlock.local.stack import Endpoints

    Handler = Callable[[AbstractIncomingMessage], Awaitable[None]]

Kind = Literal["f1", "f2"]
QUEUE: Final = "bench.floor"
CONNECTIONS: Final = 10
PREFETCH: Final = {"f1": 200, "f2": 4000}
PUBLISHED_AT_ONCE: Final = 500
_ONE: Final = "UPDATE bench_floor SET done = true WHERE id = $1"
_MANY: Final = "UPDATE bench_floor f SET done = true FROM unnest($1::uuid[]) u(id) WHERE f.id = u.id"
_VISIBLE: Final = "SELECT id FROM bench_floor WHERE done AND id = ANY($1::uuid[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """An empty quorum queue and a table of rows that are not done."""

    pool: asyncpg.Pool
    channel: AbstractChannel
    queue: AbstractQueue
    ids: Sequence[UUID]

    async def send(self, identity: UUID) -> None:
        """Publish one id, persistent and confirmed."""
        message = aio_pika.Message(identity.bytes, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self.channel.default_exchange.publish(message, self.queue.name)


@asynccontextmanager
async def bare(endpoints: Endpoints, count: int, prefetch: int) -> AsyncIterator[Bare]:
    """Make the queue and the table for `count` pieces of work, and remove them afterwards."""
    pool = await asyncpg.create_pool(
        endpoints.database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, server_settings=HOT, reset=_keep
    )
    connection = await aio_pika.connect(endpoints.amqp_url)
    async with pool, connection:
        ids = [uuid4() for _ in range(count)]
        await pool.execute("CREATE TABLE bench_floor (id uuid PRIMARY KEY, done boolean) WITH (fillfactor = 70)")
        await pool.execute("INSERT INTO bench_floor SELECT unnest($1::uuid[]), false", ids)
        await pool.execute("ANALYZE bench_floor")
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.purge()
        try:
            yield Bare(pool=pool, channel=channel, queue=queue, ids=ids)
        finally:
            await queue.delete(if_unused=False, if_empty=False)


async def drain(stage: Stage, kind: Kind, count: int) -> Reading:
    """Consume a backlog of `count`; returns the rate, and what each message costs."""
    async with stage.database(empty=True) as endpoints:
        watcher = await asyncpg.connect(endpoints.database_url)
        meter = Meter(watcher, {"client": [os.getpid()], **await servers(watcher, endpoints)})
        async with bare(endpoints, count, PREFETCH[kind]) as world:
            for start in range(0, count, PUBLISHED_AT_ONCE):
                await asyncio.gather(*(world.send(one) for one in world.ids[start : start + PUBLISHED_AT_ONCE]))
            await meter.begin()
            started = time.perf_counter()
            async with consuming(world, kind, count):
                pass
            elapsed = time.perf_counter() - started
            cpu = meter.cpu()
        costs = await meter.costs(cpu, count, published=count)
        await watcher.close()
    return named(kind, {"per_second": count / elapsed, **costs})


async def latency(stage: Stage, kind: Kind, loop: OpenLoop) -> Reading:
    """Measure one message and one committed update, at a fixed rate."""
    async with (
        stage.database(empty=True) as endpoints,
        bare(endpoints, loop.count, PREFETCH[kind]) as world,
        consuming(world, kind, loop.count),
    ):
        reading = await open_loop(endpoints.database_url, loop, world.ids, world.send, _VISIBLE)
    return named(kind, {name: value for name, value in reading.items() if name != "looks"})


@asynccontextmanager
async def consuming(world: Bare, kind: Kind, count: int) -> AsyncIterator[None]:
    """Consume while inside, and leave when `count` are done."""
    async with asyncio.TaskGroup() as group:
        over = asyncio.Event()
        if kind == "f1":
            handle = _one_by_one(world, count, over)
        else:
            handle, flushing = _batched(world, count, over)
            group.create_task(flushing)
        tag = await world.queue.consume(handle)
        yield
        await over.wait()
        await world.queue.cancel(tag)


def _one_by_one(world: Bare, count: int, over: asyncio.Event) -> Handler:
    left = count

    async def handle(message: AbstractIncomingMessage) -> None:
        nonlocal left
        await world.pool.execute(_ONE, UUID(bytes=message.body))
        await message.ack()
        left -= 1
        if left == 0:
            over.set()

    return handle


def _batched(world: Bare, count: int, over: asyncio.Event) -> tuple[Handler, Coroutine[None, None, None]]:
    arrived = asyncio.Event()
    waiting: list[AbstractIncomingMessage] = []

    async def handle(message: AbstractIncomingMessage) -> None:
        waiting.append(message)
        arrived.set()

    async def flush() -> None:
        left = count
        async with world.pool.acquire() as connection:
            statement = await connection.prepare(_MANY)
            while left > 0:
                await arrived.wait()
                arrived.clear()
                batch = waiting.copy()
                waiting.clear()
                await statement.fetch([UUID(bytes=message.body) for message in batch])
                await max(batch, key=lambda message: message.delivery_tag or 0).ack(multiple=True)
                left -= len(batch)
        over.set()

    return handle, flush()


async def _keep(_connection: object) -> None:
    """Leave a released connection as it is: the default reset would cost a round trip for nothing."""
