"""An action may run for longer than the broker lets a delivery stay unacknowledged: no delivery is held that long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aio_pika
import asyncpg
import pytest

from interlock.adapters.declarations import Declarations
from interlock.contract.topology import Topology
from interlock.local import rabbitmq
from interlock.local.stack import Stack
from tests.eventually import eventually
from tests.system.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from interlock.local.stack import Endpoints
    from tests.system.gate import Gate
    from tests.system.nursery import Nursery

# The real one is 30 minutes, looked at every minute: an action of 40 minutes is here one of 4 seconds.
TIMEOUT_MS: Final = 3000
TICK_MS: Final = 200
PREFIX: Final = "t-0123456789ab"
WAIT: Final = "tests.system.actions:wait_at_gate"
HELD: Final = "SELECT count(*) FROM in_flight WHERE worker_id IS NOT NULL"


@pytest.fixture
async def impatient(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoints]:
    """A broker of the test's own that closes the channel of whoever holds a delivery for three seconds."""
    strict = f"-rabbit consumer_timeout {TIMEOUT_MS} -rabbit channel_tick_interval {TICK_MS}"
    monkeypatch.setattr(rabbitmq, "ERLANG", f"{rabbitmq.ERLANG} {strict}")
    state = Path(os.environ.get("INTERLOCK_STATE", tmp_path))
    async with Stack(state, database_url=database_url, quiet=True) as stack:
        yield stack.endpoints


@pytest.fixture
async def strict_deployment(impatient: Endpoints, tmp_path: Path, nursery: Nursery) -> AsyncIterator[Deployment]:
    """A deployment on that broker."""
    async with await aio_pika.connect(impatient.amqp_url) as broker:
        await Declarations(Topology(PREFIX)).declare_all(broker)
    connection = await asyncpg.connect(impatient.database_url)
    made = Deployment(connection, impatient, PREFIX, tmp_path, nursery)
    try:
        yield made
    finally:
        try:
            await made.close()
        finally:
            await connection.close()


class Holder:
    """One who takes a delivery and never acknowledges it, to see when the broker loses its patience."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self.channel = channel

    @classmethod
    async def take(cls, connection: aio_pika.abc.AbstractConnection) -> Holder:
        channel = await connection.channel()
        queue = await channel.declare_queue(auto_delete=True, arguments={"x-queue-type": "classic"})
        taken: list[object] = []

        async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            taken.append(message)

        await queue.consume(keep)
        await channel.default_exchange.publish(aio_pika.Message(b"hold me"), queue.name)
        await eventually(lambda: taken)
        return cls(channel)

    async def is_punished(self) -> bool:
        """Wait until the broker closes its channel."""
        await eventually(lambda: self.channel.is_closed, timeout=20)
        return True


async def test_an_action_that_outlasts_the_brokers_consumer_timeout_is_never_disturbed_by_it(
    strict_deployment: Deployment, impatient: Endpoints, gate: Gate
) -> None:
    deployment = strict_deployment
    await deployment.register("job", function=WAIT)
    # One place, and more work than it: what cannot be taken must not be held either.
    await deployment.trio(CONCURRENCY="1")
    ids = await deployment.submit("job", 4, params={"gate": gate.path})
    await gate.arrived(1)
    connection = await aio_pika.connect(impatient.amqp_url)
    async with connection:
        # Whoever does hold a delivery for as long as this action runs loses its channel, and does so twice over.
        for _ in range(2):
            assert await (await Holder.take(connection)).is_punished()
    assert len(gate.waiting) == 1
    assert await deployment.connection.fetchval(HELD) == 1
    gate.let_all_go("done")
    assert await deployment.until_ended(ids, timeout=30) == {"completed": 4}
    assert [await deployment.attempts(identity) for identity in ids] == [[(1, "completed")]] * 4
    assert len(gate.seen) == 4
    await deployment.until_clean()
    # Nobody's channel was closed: a process that lost its session says so.
    assert deployment.loud() == []
