"""F1, the floor: a bare aio-pika consumer that makes one asyncpg update and one acknowledgement per message."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika
import asyncpg

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

QUEUE = "bench.floor"
CONNECTIONS = 10
PREFETCH = 200


async def floor(database_url: str, amqp_url: str, count: int) -> float:
    """Consume `count` messages the plain way and return messages per second."""
    pool = await asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS)
    connection = await aio_pika.connect(amqp_url)
    async with pool, connection:
        await pool.execute("CREATE UNLOGGED TABLE IF NOT EXISTS bench_floor (id uuid PRIMARY KEY, done boolean)")
        await pool.execute("ALTER TABLE bench_floor SET LOGGED")
        await pool.execute("TRUNCATE bench_floor")
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
