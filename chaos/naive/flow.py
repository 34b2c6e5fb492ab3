"""The original flow: write without a guard, publish, publish, count down in memory. Kept as it was, faults and all.

`python -m chaos.naive.flow executor|worker` with its settings as one JSON argument. The executor counts who runs in a
dictionary; the worker writes the end, then says it; both say that it is completed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import aio_pika
import asyncpg

from chaos.actions import witnessed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

EXCHANGE: Final = "amq.topic"
WORK_SECONDS: Final = 0.02
SLOTS: Final = 8


class Flow:
    """What both processes have: a database, a channel, and consumers that a fault may repeat or starve.

    `repeat` and `drop` are the shares of messages that are handled twice and not at all, as a network does it.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._database: asyncpg.Pool[Any]
        self._channel: AbstractChannel

    async def connect(self) -> None:
        """Connect to both servers."""
        self._database = await asyncpg.create_pool(self._settings["database_url"], min_size=1, max_size=4)
        connection = await aio_pika.connect(self._settings["amqp_url"])
        self._channel = await connection.channel()
        await self._channel.set_qos(prefetch_count=SLOTS)

    async def set_status(self, identity: str, status: str) -> None:
        """Write a status, whatever stood there."""
        await self._database.execute("UPDATE job SET status = $2 WHERE id = $1", identity, status)

    async def say(self, kind: str, **fields: object) -> None:
        """Publish one message, under an id of its own."""
        body = json.dumps({"id": str(uuid4()), **fields}).encode()
        exchange = await self._channel.get_exchange(EXCHANGE, ensure=False)
        await exchange.publish(aio_pika.Message(body), f"{self._settings['prefix']}.{kind}")

    async def consume(self, kind: str, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Handle each message, and acknowledge it afterwards."""
        queue = await self._channel.get_queue(f"{self._settings['prefix']}.{kind}", ensure=False)

        async def arrive(message: AbstractIncomingMessage) -> None:
            drawn = random.random()  # noqa: S311 - an accident, not a secret
            times = 0 if drawn < self._settings["drop"] else 2 if drawn > 1 - self._settings["repeat"] else 1
            for _ in range(1 if kind == "requests" else times):
                await handle(json.loads(message.body))
            await message.ack()

        await queue.consume(arrive)


class Executor(Flow):
    """Admits while fewer than the limit are counted; the rest waits in memory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._active: Counter[str] = Counter()
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)

    async def run(self) -> None:
        """Take up what the table says, then consume."""
        for row in await self._database.fetch("SELECT id::text, key FROM job WHERE status = 'requested' ORDER BY id"):
            await self._admit(row["key"], row["id"])
        await self.consume("requests", self._on_request)
        await self.consume("status", self._on_status)
        await self.consume("completed", self._on_completed)

    async def _on_request(self, message: dict[str, Any]) -> None:
        statement = "INSERT INTO job (id, key, status) VALUES ($1, $2, 'requested') ON CONFLICT DO NOTHING"
        await self._database.execute(statement, message["job"], message["key"])
        await self._admit(message["key"], message["job"])

    async def _admit(self, key: str, identity: str) -> None:
        if self._active[key] >= self._settings["limit"]:
            self._waiting[key].append(identity)
            return
        self._active[key] += 1
        self._tell()
        await self.set_status(identity, "scheduled")
        await self.say("work", job=identity, key=key)

    async def _on_status(self, message: dict[str, Any]) -> None:
        if message["status"] == "completed":
            await self.say("completed", job=message["job"], key=message["key"])

    async def _on_completed(self, message: dict[str, Any]) -> None:
        key = message["key"]
        self._active[key] -= 1
        self._tell()
        if self._waiting[key]:
            await self._admit(key, self._waiting[key].popleft())

    def _tell(self) -> None:
        """Leave the counter where the auditor finds it."""
        Path(self._settings["evidence"], "active").write_text(json.dumps(self._active))


class Worker(Flow):
    """Runs what it is told, writes the end, says the end, acknowledges."""

    async def run(self) -> None:
        """Consume."""
        await self.consume("work", self._on_work)

    async def _on_work(self, message: dict[str, Any]) -> None:
        identity, key = message["job"], message["key"]
        await self.set_status(identity, "running")
        with witnessed(Path(self._settings["evidence"]), identity, key, self._settings["limit"]):
            await asyncio.sleep(WORK_SECONDS)
        await self.set_status(identity, "completed")
        await self.say("status", job=identity, key=key, status="completed")
        await self.say("completed", job=identity, key=key)


async def main(role: str, settings: dict[str, Any]) -> None:
    """Run one process until it is killed."""
    flow = Executor(settings) if role == "executor" else Worker(settings)
    await flow.connect()
    await flow.run()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
