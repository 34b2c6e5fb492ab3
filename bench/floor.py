"""What the parts cost by themselves: bare aio-pika consumers and bare asyncpg updates, which decide nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

QUEUE = "bench.floor"
CONNECTIONS = 10
PREFETCH = 200


async def floor(database_url: str, amqp_url: str, count: int) -> float:
    """F1: one update and one acknowledgement per message. Consume `count` the plain way; return messages per second."""
    pool = await asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    connection = await aio_pika.connect(amqp_url)
    async with pool, connection:
        await pool.execute("DROP TABLE IF EXISTS bench_floor")
        await pool.execute("CREATE TABLE bench_floor (id uuid PRIMARY KEY, done boolean)")
        ids = [uuid4() for _ in range(count)]
        await pool.execute("INSERT INTO bench_floor SELECT unnest($1::uuid[]), false", ids)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.purge()
        for start in range(0, count, 500):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(aio_pika.Message(identity.bytes), QUEUE)
                    for identity in ids[start : start + 500]
                )
            )
        left, over = count, asyncio.Event()

        async def handle(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await pool.execute("UPDATE bench_floor SET done = true WHERE id = encode($1, 'hex')::uuid", message.body)
            await message.ack()
            left -= 1
            if left == 0:
                over.set()

        started = time.perf_counter()
        await queue.consume(handle)
        await over.wait()
        elapsed = time.perf_counter() - started
        await queue.delete(if_unused=False, if_empty=False)
        await pool.execute("DROP TABLE bench_floor")
    return count / elapsed


async def relay_race(
    database_url: str, amqp_url: str, *, limit: int, count: int, work: Callable[[], Awaitable[None]]
) -> float:
    """Let `limit` batons go round between two bare consumers until `count` pieces of work are done; return the seconds.

    One round is what a slot's way round cannot do without: a message, a committed update, the work, another update,
    another message, a third update.
    """
    pool = await asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    connection = await aio_pika.connect(amqp_url)
    async with pool, connection:
        await pool.execute("DROP TABLE IF EXISTS bench_floor")
        await pool.execute("CREATE TABLE bench_floor (id int PRIMARY KEY, n bigint)")
        await pool.execute("INSERT INTO bench_floor SELECT generate_series(0, $1 - 1), 0", limit)
        channel = await connection.channel(publisher_confirms=False)
        quorum: dict[str, Any] = {"x-queue-type": "quorum"}
        there = await channel.declare_queue(f"{QUEUE}.there", durable=True, arguments=quorum)
        back = await channel.declare_queue(f"{QUEUE}.back", durable=True, arguments=quorum)
        left, over = count, asyncio.Event()

        async def count_up(message: AbstractIncomingMessage) -> None:
            await pool.execute("UPDATE bench_floor SET n = n + 1 WHERE id = $1", int(message.body))

        async def pass_on(message: AbstractIncomingMessage, queue: AbstractQueue) -> None:
            if over.is_set():
                return
            baton = aio_pika.Message(message.body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(baton, queue.name)

        async def work_on(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await count_up(message)
            await message.ack()
            await work()
            await count_up(message)
            left -= 1
            if left <= 0:
                over.set()
            await pass_on(message, back)

        async def send_on(message: AbstractIncomingMessage) -> None:
            await count_up(message)
            await pass_on(message, there)
            await message.ack()

        tags = [(there, await there.consume(work_on)), (back, await back.consume(send_on))]
        started = time.perf_counter()
        for number in range(limit):
            await channel.default_exchange.publish(aio_pika.Message(str(number).encode()), there.name)
        await over.wait()
        elapsed = time.perf_counter() - started
        for queue, tag in tags:
            await queue.cancel(tag)
            await queue.delete(if_unused=False, if_empty=False)
    return elapsed
