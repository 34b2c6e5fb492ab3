"""P5: how fast requests become committed rows, by messages of 500 and by the client library. No worker runs.

The floor consumes the same messages, and commits a row of two columns for each request, one statement per message.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final
from uuid import UUID

import aio_pika
import asyncpg
import orjson

from bench.meter import Meter, servers
from bench.readings import Reading, named
from bench.stage import NOOP, Cast, publish, requests, until
from interlock.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractIncomingMessage

    from bench.stage import Stage
    from interlock.local.stack import Endpoints

QUEUE: Final = "bench.accept"
PREFETCH: Final = 8
LIST: Final = 500
AT_ONCE: Final = 4
"""Lists that the library is given at a time: as many as it has connections."""
# Counting all rows at every look would be a good part of the work: they are counted once the last one is there.
_ALL_THERE: Final = """
SELECT CASE WHEN EXISTS (SELECT 1 FROM execution WHERE id = $2) THEN (SELECT count(*) = $1 FROM execution)
            ELSE false END
"""
_INSERT: Final = "INSERT INTO bench_accepted SELECT * FROM unnest($1::uuid[], $2::text[])"


async def by_message(stage: Stage, count: int, *, executors: int = 1) -> Reading:
    """Executors, no worker: from the first message until every row is committed."""
    bodies = requests(NOOP, count)
    last = UUID(orjson.loads(bodies[-1])[-1]["data"]["id"])

    async def work(endpoints: Endpoints, connection: asyncpg.Connection) -> Reading:
        started = time.perf_counter()
        await publish(endpoints.client, bodies)
        looks = await until(connection, _ALL_THERE, count, last, every=0.02)
        return {"per_second": count / (time.perf_counter() - started), "looks": looks}

    name = "p5.amqp" if executors == 1 else "p5.two"
    return await stage.measured(name, count, work, Cast(executors=executors, workers=0), published=len(bodies))


async def by_library(stage: Stage, count: int) -> Reading:
    """`Client.submit` in this very process, lists of 500, as many at a time as it has connections."""
    async with stage.database() as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        meter = Meter(connection, {"client": [os.getpid()], **await servers(connection, endpoints)})
        async with Client.connect(endpoints.database_url) as client:
            await client.submit([{"action": NOOP}])
            await meter.begin()
            started = time.perf_counter()
            lists = [LIST] * (count // LIST) + [count % LIST] * (count % LIST > 0)

            async def submit() -> None:
                while lists:
                    await client.submit([{"action": NOOP}] * lists.pop())

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(submit())
            elapsed = time.perf_counter() - started
            cpu = meter.cpu()
        costs = await meter.costs(cpu, count)
        await connection.close()
    return named("p5.library", {"per_second": count / elapsed, **costs})


async def floor(stage: Stage, count: int) -> Reading:
    """Consume and commit the same messages bare."""
    bodies = requests(NOOP, count)
    async with stage.database(empty=True) as endpoints:
        return named("p5.bare", {"per_second": count / await _consume(endpoints, bodies, count)})


async def _consume(endpoints: Endpoints, bodies: Sequence[bytes], count: int) -> float:
    database = await asyncpg.connect(endpoints.database_url)
    broker = await aio_pika.connect(endpoints.amqp_url)
    async with broker:
        await database.execute("CREATE TABLE bench_accepted (id uuid PRIMARY KEY, data text)")
        channel = await broker.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        left, over, turn = count, asyncio.Event(), asyncio.Lock()

        async def handle(message: AbstractIncomingMessage) -> None:
            nonlocal left
            wanted = [event["data"] for event in orjson.loads(message.body)]
            async with turn:
                await database.execute(_INSERT, [UUID(one["id"]) for one in wanted], [one["action"] for one in wanted])
            await message.ack()
            left -= len(wanted)
            if left == 0:
                over.set()

        tag = await queue.consume(handle)
        started = time.perf_counter()
        for body in bodies:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, queue.name)
        await over.wait()
        elapsed = time.perf_counter() - started
        await queue.cancel(tag)
        await queue.delete(if_unused=False, if_empty=False)
    await database.close()
    return elapsed
