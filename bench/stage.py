"""The stage of every run: servers, a database of its own made from one template, daemons on it, and the meter around.

Each run begins on an equally empty database, so no round depends on what another has left behind.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import aio_pika
import asyncpg
from aio_pika.exceptions import ChannelNotFoundEntity
from uuid_utils import uuid7

from bench import processes
from bench.meter import Meter, servers
from bench.readings import Reading, named
from interlock.adapters.migrations import migrate
from interlock.client import Client
from interlock.contract import events
from interlock.contract.definitions import Action
from interlock.contract.topology import Topology
from interlock.local.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from interlock.local.stack import Endpoints

    Work = Callable[[Endpoints, asyncpg.Connection], Awaitable[Reading]]

CONCURRENCY: Final = 500
LIMIT: Final = 1000
PATIENCE_SECONDS: Final = 300.0
TEMPLATE: Final = "bench_template"
NOOP: Final = "bench.noop"
LIMITED: Final = "bench.limited"
TRUE: Final = "bench.true"
ACTIONS: Final = tuple(
    Action.model_validate(definition)
    for definition in (
        {"action": NOOP, "function": "bench.actions:noop"},
        {"action": LIMITED, "function": "bench.actions:noop", "limit": LIMIT},
        {"action": TRUE, "command": ["/bin/true"]},
        {"action": "bench.pause1", "function": "bench.actions:pause", "limit": 1},
        {"action": "bench.pause10", "function": "bench.actions:pause", "limit": 10},
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Which daemons run, and how many executions each worker runs at a time."""

    executors: int = 1
    workers: int = 1
    concurrency: int = CONCURRENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers and a folder for logs. `async with stage.database() as endpoints` is a new database on them."""

    endpoints: Endpoints
    logs: Path

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Have the template while inside: the schema of this version, and the actions that are measured."""
        async with self._made(TEMPLATE, f"CREATE DATABASE {TEMPLATE}"):
            url = database_url(self.endpoints, TEMPLATE)
            connection = await asyncpg.connect(url)
            try:
                await migrate(connection)
            finally:
                await connection.close()
            async with Client.connect(url) as client:
                await client.apply_actions(ACTIONS)
            yield

    @asynccontextmanager
    async def database(self, *, empty: bool = False) -> AsyncIterator[Endpoints]:
        """Make a database, with our schema or `empty`, and drop it afterwards."""
        name = f"bench_{os.getpid()}"
        async with self._made(name, f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {TEMPLATE}")):
            await self._purge()
            yield replace(self.endpoints, database_url=database_url(self.endpoints, name))

    @asynccontextmanager
    async def _made(self, name: str, statement: str) -> AsyncIterator[None]:
        """Have a database while inside. Nothing of one before is left to be written while this one is measured."""
        server = await asyncpg.connect(self.endpoints.database_url)
        try:
            await server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await server.execute(statement)
            await server.execute("CHECKPOINT")
            try:
                yield
            finally:
                await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await server.close()

    async def _purge(self) -> None:
        """Empty our queues: what a database that is gone has left there concerns nobody."""
        topology = Topology()
        broker = await aio_pika.connect(self.endpoints.amqp_url)
        async with broker:
            for queue in (*topology.queues, topology.pool_queue("default")):
                with suppress(ChannelNotFoundEntity):
                    async with broker.channel() as channel:
                        await (await channel.get_queue(queue.name)).purge()

    async def measured(self, name: str, count: int, work: Work, cast: Cast, *, published: int = 0) -> Reading:
        """Let `work` do `count` executions on daemons of their own; returns what it read, and what each one cost.

        What `work` calls `looks` are transactions of its own, which are not the product's.
        """
        async with self.database() as endpoints:
            connection = await asyncpg.connect(endpoints.database_url)
            try:
                async with self.daemons(endpoints, cast) as daemons:
                    meter = Meter(connection, {**_roots(daemons), **await servers(connection, endpoints)})
                    await meter.begin()
                    reading = await work(endpoints, connection)
                    cpu = meter.cpu()
                    memory = {f"rss_mb.{part}": _peak(roots) for part, roots in _roots(daemons).items()}
                # Not before: backends say at their end what they did since they last said it.
                costs = await meter.costs(cpu, count, published=published, looks=reading.pop("looks", 0.0))
            finally:
                await connection.close()
        return named(name, {**reading, **costs, **memory})

    def daemons(self, endpoints: Endpoints, cast: Cast) -> Daemons:
        """Return the daemons of a cast, not started yet."""
        env = {
            "INTERLOCK_CONCURRENCY": str(cast.concurrency),
            "INTERLOCK_FUNCTIONS": "bench.actions",
            "INTERLOCK_LOG_LEVEL": "warning",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        return Daemons(endpoints, logs=self.logs, executors=cast.executors, workers=cast.workers, env=env)


def database_url(endpoints: Endpoints, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlunsplit(urlsplit(endpoints.database_url)._replace(path=f"/{name}"))


def requests(action: str, count: int) -> list[bytes]:
    """Return `count` requests for an action as messages of up to 500."""
    bodies = []
    for start in range(0, count, events.MAX_EVENTS):
        size = min(events.MAX_EVENTS, count - start)
        batch = events.requested("/bench", [{"id": str(UUID(int=uuid7().int)), "action": action} for _ in range(size)])
        bodies.append(events.encode(batch)[0] if size > 1 else b"[" + events.encode(batch)[0] + b"]")
    return bodies


async def publish(amqp_url: str, bodies: Sequence[bytes]) -> None:
    """Send these messages as a client, each when the one before is confirmed."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("interlock.requests", ensure=False)
        for body in bodies:
            message = aio_pika.Message(body, content_type=events.BATCH, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "execution.requested")


async def until(connection: asyncpg.Connection, statement: str, *arguments: object, every: float = 0.05) -> int:
    """Wait until a statement says true, looking every so many seconds; return how often it was asked.

    Raises TimeoutError after five minutes.
    """
    looks = 1
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await connection.fetchval(statement, *arguments):
            looks += 1
            await asyncio.sleep(every)
    return looks


async def until_finished(connection: asyncpg.Connection, count: int) -> int:
    """Wait until so many are there and nothing waits, runs or holds a slot; return how often it looked."""
    return await until(
        connection,
        """SELECT CASE
               WHEN EXISTS (SELECT 1 FROM in_flight) OR EXISTS (SELECT 1 FROM waiting) OR EXISTS (SELECT 1 FROM slot)
               THEN false
               ELSE (SELECT count(*) FROM execution) = $1 END""",
        count,
    )


def _roots(daemons: Daemons) -> dict[str, list[int]]:
    roots = {
        "executor": [daemon.pid for daemon in daemons.executors],
        "worker": [daemon.pid for daemon in daemons.workers],
    }
    return {part: pids for part, pids in roots.items() if pids}


def _peak(roots: Sequence[int]) -> float:
    """Return the peak of the largest process below these: of a worker that is the child, not its guardian."""
    below = processes.tree(processes.processes(), roots)
    return max((processes.peak_mb(pid) for pid in below), default=0.0)
