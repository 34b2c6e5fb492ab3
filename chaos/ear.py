"""An independent subscriber, with a client's rights: every event once, under its id, whatever happens to the broker.

Its queue is durable and acknowledged, so that a lost connection loses nothing; what a wiped broker held is gone.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any, Final, Self

import aio_pika

from interlock.adapters.subscription import broker_errors
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from types import TracebackType

    from aio_pika.abc import AbstractIncomingMessage

    from interlock.contract.topology import Topology

PAUSE: Final = 0.1
FORGER: Final = "/forger"
"""The source of events that the trials themselves made up."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event says: its type, its subject, and its data; and when it was first heard, by our own clock."""

    type: str
    subject: str
    data: dict[str, Any]
    at: float = field(default=0.0, compare=False)


class Ear:
    """Listens on the queue `name` from the start of the block to its end. `facts` are by event id."""

    def __init__(self, url: str, topology: Topology, name: str) -> None:
        self._url = url
        self._topology = topology
        self.name = name
        self._tasks = asyncio.TaskGroup()
        self._life: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self.facts: dict[str, Fact] = {}
        self.contradictions: list[str] = []
        """Event ids under which two different things were said."""

    async def _live(self) -> None:
        while True:
            try:
                with broker_errors():
                    await self._listen()
            except Transient:
                self._listening.clear()
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        connection = await aio_pika.connect(self._url, timeout=5)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=500)
            closed = asyncio.Event()
            for each in (connection, channel):
                each.close_callbacks.add(lambda *_: closed.set())
            queue = await channel.declare_queue(self.name, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(self._topology.status.name, "#")
            await queue.bind(self._topology.completions.name, "#")
            await queue.consume(self._arrive)
            self._listening.set()
            await closed.wait()

    async def _arrive(self, message: AbstractIncomingMessage) -> None:
        for event in readable(message.body):
            self.hear(event)
        try:
            with broker_errors():
                await message.ack()
        except Transient:
            self._listening.clear()

    def hear(self, event: dict[str, Any]) -> None:
        """Take one event as it was sent; a repeat must say the same."""
        if event["source"] == FORGER:
            return
        fact = Fact(event["type"], event["subject"], event["data"], time())
        if self.facts.setdefault(event["id"], fact) != fact:
            self.contradictions.append(event["id"])

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._life = self._tasks.create_task(self._live())
        await self._listening.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._life is not None:
            self._life.cancel()
        await self._tasks.__aexit__(kind, raised, trace)


def readable(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a message that are events at all; what somebody spoilt on purpose is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return []
    found = document if isinstance(document, list) else [document]
    return [event for event in found if isinstance(event, dict) and {"id", "source", "subject", "data"} <= event.keys()]
