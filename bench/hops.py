"""Floors of the slot hand-off: one hop through a queue, and a baton that goes round between two bare consumers.

Both over the two kinds of queues: quorum with persistent messages, as ours are, and classic with transient ones, which
lose everything with their broker.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import aio_pika
import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

    from bench.readings import Reading
    from interlock.local.stack import Endpoints

QueueKind = Literal["quorum", "classic"]
KINDS: Final[tuple[QueueKind, ...]] = ("quorum", "classic")
QUEUE: Final = "bench.hop"
CONNECTIONS: Final = 10
IDLE_SECONDS: Final = 0.02
_DELIVERY: Final = {
    "quorum": aio_pika.DeliveryMode.PERSISTENT,
    "classic": aio_pika.DeliveryMode.NOT_PERSISTENT,
}
_COUNT_UP: Final = "UPDATE bench_baton SET n = n + 1 WHERE id = $1"


def _queue(kind: QueueKind) -> dict[str, Any]:
    return {"durable": kind == "quorum", "arguments": {"x-queue-type": kind}}


async def hop(endpoints: Endpoints, kind: QueueKind, count: int) -> Reading:
    """Measure one message on its own from the publisher to the consumer: after a pause, and straight after another."""
    connection = await aio_pika.connect(endpoints.amqp_url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(f"{QUEUE}.{kind}", **_queue(kind))
        arrived = asyncio.Event()

        async def handle(message: AbstractIncomingMessage) -> None:
            arrived.set()
            await message.ack()

        async def once() -> float:
            arrived.clear()
            started = time.perf_counter()
            message = aio_pika.Message(b"", delivery_mode=_DELIVERY[kind])
            await channel.default_exchange.publish(message, queue.name)
            await arrived.wait()
            return 1000 * (time.perf_counter() - started)

        tag = await queue.consume(handle)
        busy = [await once() for _ in range(count)]
        idle = []
        for _ in range(count):
            await asyncio.sleep(IDLE_SECONDS)
            idle.append(await once())
        await queue.cancel(tag)
        await queue.delete(if_unused=False, if_empty=False)
    return {"idle_ms": statistics.median(idle), "busy_ms": statistics.median(busy)}


async def relay_race(
    endpoints: Endpoints, kind: QueueKind, *, limit: int, count: int, work: Callable[[], Awaitable[None]]
) -> float:
    """Let `limit` batons go round between two bare consumers until `count` pieces of work are done; return the seconds.

    One round is what a slot's way round cannot do without: a message, a committed update, the work, another update,
    another message, a third update.
    """
    pool = await asyncpg.create_pool(endpoints.database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    connection = await aio_pika.connect(endpoints.amqp_url)
    async with pool, connection:
        await pool.execute("CREATE TABLE IF NOT EXISTS bench_baton (id int PRIMARY KEY, n bigint)")
        await pool.execute("TRUNCATE bench_baton")
        await pool.execute("INSERT INTO bench_baton SELECT generate_series(0, $1 - 1), 0", limit)
        channel = await connection.channel(publisher_confirms=False)
        there = await channel.declare_queue(f"{QUEUE}.there.{kind}", **_queue(kind))
        back = await channel.declare_queue(f"{QUEUE}.back.{kind}", **_queue(kind))
        left, over = count, asyncio.Event()

        async def pass_on(body: bytes, queue: AbstractQueue) -> None:
            if not over.is_set():
                message = aio_pika.Message(body, delivery_mode=_DELIVERY[kind])
                await channel.default_exchange.publish(message, queue.name)

        async def work_on(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await pool.execute(_COUNT_UP, int(message.body))
            await message.ack()
            await work()
            await pool.execute(_COUNT_UP, int(message.body))
            left -= 1
            if left <= 0:
                over.set()
            await pass_on(message.body, back)

        async def send_on(message: AbstractIncomingMessage) -> None:
            await pool.execute(_COUNT_UP, int(message.body))
            await pass_on(message.body, there)
            await message.ack()

        tags = [(there, await there.consume(work_on)), (back, await back.consume(send_on))]
        started = time.perf_counter()
        for number in range(limit):
            await pass_on(str(number).encode(), there)
        await over.wait()
        elapsed = time.perf_counter() - started
        for queue, tag in tags:
            await queue.cancel(tag)
            await queue.delete(if_unused=False, if_empty=False)
    return elapsed


async def prefetched(endpoints: Endpoints, *, limit: int, count: int, work: Callable[[], Awaitable[None]]) -> float:
    """Let the broker's prefetch be the limit of one bare consumer: work, an update, an ack; return the seconds.

    One process and one message for each piece of work: a limit that holds over several processes cannot do this.
    """
    pool = await asyncpg.create_pool(endpoints.database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    connection = await aio_pika.connect(endpoints.amqp_url)
    async with pool, connection:
        await pool.execute("CREATE TABLE IF NOT EXISTS bench_baton (id int PRIMARY KEY, n bigint)")
        await pool.execute("TRUNCATE bench_baton")
        await pool.execute("INSERT INTO bench_baton SELECT generate_series(0, $1 - 1), 0", count)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=limit)
        queue = await channel.declare_queue(f"{QUEUE}.prefetched", **_queue("quorum"))
        for number in range(count):
            message = aio_pika.Message(str(number).encode(), delivery_mode=_DELIVERY["quorum"])
            await channel.default_exchange.publish(message, queue.name)
        left, over = count, asyncio.Event()

        async def handle(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await work()
            await pool.execute(_COUNT_UP, int(message.body))
            await message.ack()
            left -= 1
            if left == 0:
                over.set()

        started = time.perf_counter()
        tag = await queue.consume(handle)
        await over.wait()
        elapsed = time.perf_counter() - started
        await queue.cancel(tag)
        await queue.delete(if_unused=False, if_empty=False)
    return elapsed
