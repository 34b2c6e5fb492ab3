"""P3: from the submission to the moment at which another connection sees the end, at a fixed rate, for one and all.

An open loop: what is late is late by its own schedule, not by that of whoever measures. The floor is measured with the
same eyes: a connection that asks again and again which of those under way are done.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import aio_pika
import asyncpg
from uuid_utils import uuid7

from bench.readings import Reading, percentile
from bench.stage import NOOP, PATIENCE_SECONDS, Cast
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from bench.stage import Stage
    from interlock.local.stack import Endpoints

PAUSE: Final = 0.0005
"""Seconds between two looks; half of it, and the round trip of a look, is in every latency."""
_VISIBLE: Final = "SELECT id FROM execution WHERE id = ANY($1::uuid[]) AND is_terminal(status)"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """So many at so many per second, after a few that only warm up."""

    rate: float
    measured: int
    warmup: int

    @property
    def count(self) -> int:
        """How many are sent in all."""
        return self.warmup + self.measured


@dataclass(slots=True)
class _Watch:
    """Who is under way since when, and how long the others took."""

    due: dict[UUID, float] = field(default_factory=dict)
    took: dict[UUID, float] = field(default_factory=dict)
    looks: int = 0
    something: asyncio.Event = field(default_factory=asyncio.Event)


async def open_loop(
    database_url: str,
    loop: OpenLoop,
    ids: Sequence[UUID],
    send: Callable[[UUID], Coroutine[None, None, None]],
    visible: str,
) -> Reading:
    """Send each of `ids` at its time and wait until all are seen by `visible`; returns percentiles in milliseconds."""
    watch = _Watch()
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(_watch(connection, visible, watch, len(ids)))
            started = time.perf_counter()
            for number, identity in enumerate(ids):
                due = started + number / loop.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                watch.due[identity] = due
                watch.something.set()
                group.create_task(send(identity))
    finally:
        await connection.close()
    took = [1000 * watch.took[identity] for identity in ids[loop.warmup :]]
    return {**{f"p{share:g}_ms": percentile(took, share / 100) for share in (50, 99)}, "looks": watch.looks}


async def _watch(connection: asyncpg.Connection, visible: str, watch: _Watch, count: int) -> None:
    statement = await connection.prepare(visible)
    while len(watch.took) < count:
        await watch.something.wait()
        watch.looks += 1
        for row in await statement.fetch(list(watch.due)):
            watch.took[row["id"]] = time.perf_counter() - watch.due.pop(row["id"])
        if not watch.due:
            watch.something.clear()
        await asyncio.sleep(PAUSE)


async def latency(stage: Stage, loop: OpenLoop) -> Reading:
    """Measure one executor and one worker at this rate, each request in a message of its own."""

    async def work(endpoints: Endpoints, _connection: asyncpg.Connection) -> Reading:
        ids = [UUID(int=uuid7().int) for _ in range(loop.count)]
        broker = await aio_pika.connect(endpoints.client)
        async with broker:
            channel = await broker.channel(on_return_raises=True)
            exchange = await channel.get_exchange("interlock.requests", ensure=False)

            async def send(identity: UUID) -> None:
                body, kind = events.encode(events.requested("/bench", [{"id": str(identity), "action": NOOP}]))
                message = aio_pika.Message(body, content_type=kind, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, "execution.requested")

            return await open_loop(endpoints.database_url, loop, ids, send, _VISIBLE)

    return await stage.measured("p3", loop.count, work, Cast(), published=loop.count)
