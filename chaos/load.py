"""Asks for executions while faults go on: over AMQP and through the library, cancelling some on the way.

A client's part of the contract: whoever asks repeats, with the same ids, until the row is there.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from chaos.batch_kinds import AskedBatch
from interlock.client.batches import NotOpen, NotRestartable
from interlock.client.ids import UnknownId
from interlock.contract import events
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from pydantic import JsonValue

    from chaos.eyes import Eyes
    from chaos.flavours import Asked
    from chaos.sender import Sender
    from interlock.client import Client
    from interlock.contract.topology import Topology

CHUNK: Final = 40
REPEAT: Final = 3.0
"""Seconds after which what is not there is asked for again."""
LOOK: Final = 0.5
OVER_AMQP: Final = 0.5
"""The share of what is asked over AMQP; the rest goes through the library."""


class Load:
    """One plan, sent over `seconds`. `asked` grows as requests are made for the first time."""

    def __init__(
        self,
        plan: Sequence[Asked],
        seed: random.Random,
        *,
        seconds: float,
        topology: Topology,
        sender: Sender,
        client: Client,
        eyes: Eyes,
    ) -> None:
        self._plan = list(plan)
        self._seed = seed
        self._seconds = seconds
        self._topology = topology
        self._sender = sender
        self._client = client
        self._eyes = eyes
        self._unseen: dict[UUID, tuple[float, Asked]] = {}
        self._uncancelled: dict[UUID, float] = {}
        self.asked: list[Asked] = []
        self.done = False

    @property
    def accepted(self) -> list[Asked]:
        """What is known to be accepted, so that nothing else can take its place."""
        return [each for each in self.asked if each.id not in self._unseen]

    async def run(self) -> None:
        """Ask for everything; return when every row is there, and every cancel and restart has reached its own."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._repeat())
            tasks.create_task(self._cancel())
            tasks.create_task(self._fill())
            tasks.create_task(self._restart())

    async def _send(self) -> None:
        began = monotonic()
        chunks = [self._plan[start : start + CHUNK] for start in range(0, len(self._plan), CHUNK)]
        async with asyncio.TaskGroup() as tasks:
            for number, chunk in enumerate(chunks):
                await asyncio.sleep(max(0.0, began + self._seconds * number / len(chunks) - monotonic()))
                self.asked += chunk
                now = monotonic()
                self._uncancelled |= {each.id: now + self._seed.uniform(-0.2, 2) for each in chunk if each.cancelled}
                self._unseen |= {each.id: (now + REPEAT, each) for each in chunk}
                tasks.create_task(self._publish(chunk) if self._seed.random() < OVER_AMQP else self._submit(chunk))
        self.done = True

    async def _publish(self, chunk: Sequence[Asked]) -> None:
        wanted = events.requested("/chaos", [dict(each.request) for each in chunk])
        await self._sender.publish(self._topology.requests.name, "execution.requested", *events.encode(wanted))

    async def _submit(self, chunk: Sequence[Asked]) -> None:
        while True:
            try:
                await self._client.submit([each.request for each in chunk])
            except Transient:
                await asyncio.sleep(LOOK)
            else:
                return

    async def _repeat(self) -> None:
        while self._unseen or not self.done:
            await asyncio.sleep(LOOK)
            for row in await self._eyes.fetch("accepted", list(self._unseen)):
                self._unseen.pop(row["id"], None)
            now = monotonic()
            due = [asked for at, asked in self._unseen.values() if at <= now]
            for start in range(0, len(due), CHUNK):
                chunk = due[start : start + CHUNK]
                self._unseen |= {each.id: (now + REPEAT, each) for each in chunk}
                await self._publish(chunk)

    async def _cancel(self) -> None:
        while self._uncancelled or not self.done:
            await asyncio.sleep(LOOK)
            for row in await self._eyes.fetch("no_longer_open", list(self._uncancelled)):
                self._uncancelled.pop(row["id"], None)
            now = monotonic()
            due = sorted(identity for identity, at in self._uncancelled.items() if at <= now)
            self._uncancelled |= dict.fromkeys(due, now + REPEAT)
            if due and self._seed.random() < OVER_AMQP:
                await self._sender.publish(
                    self._topology.requests.name, "execution.cancel_requested", *events.encode(_cancels(due))
                )
            elif due:
                await self._cancel_directly(due)

    async def _fill(self) -> None:
        """Add to each open batch what is still to come, then seal it; one that has ended needs neither."""
        filled: set[UUID] = set()
        while (left := self._left_open(filled)) or not self.done:
            await asyncio.sleep(LOOK)
            filled |= {row["id"] for row in await self._eyes.fetch("no_longer_open", list(left))}
            for identity, items in left.items():
                if identity not in filled and await self._filled(identity, items):
                    filled.add(identity)

    def _left_open(self, filled: Collection[UUID]) -> dict[UUID, tuple[JsonValue, ...]]:
        batches = [each for each in self.asked if isinstance(each, AskedBatch) and each.id not in filled]
        return {each.id: each.added for each in batches if each.added is not None}

    async def _filled(self, identity: UUID, items: Sequence[JsonValue]) -> bool:
        try:
            for item in items:
                await self._client.batches.add(identity, [item])
            await self._client.batches.seal(identity)
        except (Transient, UnknownId, NotOpen):
            return False  # not there, or not planned: the next round adds again, and what is there already is known
        return True

    async def _restart(self) -> None:
        """Restart each batch that is to be, as often as it is to be, each time that it has ended."""
        given_up: set[UUID] = set()
        while (left := self._unrestarted(given_up)) or not self.done:
            await asyncio.sleep(LOOK)
            for row in await self._eyes.fetch("ended_epochs", list(left)):
                if row["epoch"] > left[row["id"]] or not await self._restarted(row["id"]):
                    given_up.add(row["id"])

    def _unrestarted(self, given_up: Collection[UUID]) -> dict[UUID, int]:
        batches = [each for each in self.asked if isinstance(each, AskedBatch) and each.id not in given_up]
        return {each.id: each.restarts for each in batches if each.restarts}

    async def _restarted(self, identity: UUID) -> bool:
        """Whether there is anything to be restarted, now or in the next round."""
        try:
            await self._client.batches.restart(identity)
        except Transient:
            return True
        except NotRestartable:
            return not await self._eyes.fetch("ended_epochs", [identity])  # else all of it is good, or was never made
        return True

    async def _cancel_directly(self, ids: Collection[UUID]) -> None:
        try:
            await self._client.cancel(ids, "not wanted any more")
        except Transient:
            return  # the next round asks again


def _cancels(ids: Collection[UUID]) -> list[Any]:
    return [
        events.CancelRequested(
            specversion="1.0",
            id=f"cancel/{identity}",
            source="/chaos",
            type="execution.cancel_requested",
            data=events.CancelRequestedData(id=identity, reason="not wanted any more"),
        )
        for identity in ids
    ]
