"""A session with a real broker: it looks after itself for months, and keeps nothing of it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import aio_pika
from aio_pika.tools import OneShotCallback

from interlock.adapters import amqp
from interlock.adapters.amqp import Session
from interlock.adapters.health import Readiness
from interlock.adapters.lifecycle import end_all
from interlock.contract.topology import Topology

if TYPE_CHECKING:
    import pytest
    from aio_pika.abc import AbstractIncomingMessage

    from interlock.contract import events

LOOKS = 40


def channels() -> int:
    """Count what the library keeps of each channel, closed ones too, as long as its connection lives."""
    gc.collect()
    return sum(isinstance(one, OneShotCallback) for one in gc.get_objects())


async def nothing(_event: events.Event) -> None:
    """Do nothing with what comes."""


async def test_looking_after_itself_leaves_nothing_in_memory(
    amqp_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp, "CANARY_SECONDS", 0.01)  # a period, no code: what takes minutes is seen in one second
    topology = Topology(prefix)
    session = Session(amqp_url, topology, "test", Readiness())
    session.subscribe(topology.status_queue)
    canaries: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await session.start()
    async with await aio_pika.connect(amqp_url) as connection:
        beside = await (await connection.channel()).declare_queue(exclusive=True)
        await beside.bind(topology.control.name, "test")
        await beside.consume(canaries.put, no_ack=True)
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(session.listen(nothing)), tasks.create_task(session.watch())]
            await canaries.get()
            before = channels()
            for _ in range(LOOKS):
                await canaries.get()
            after = channels()
            await end_all(keeping)
    assert session.connected
    await session.close()
    assert after == before
