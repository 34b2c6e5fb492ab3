"""A connected session, a pool, and the broker as its owner sees it: for tests of what stands between both servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interlock.adapters.outbox import Relay
from interlock.adapters.telemetry import Metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from asyncpg import Pool

    from interlock.adapters.amqp import Session
    from interlock.contract.topology import Topology


class Wire:
    """A connected session, a pool, and the broker seen by its owner."""

    def __init__(self, pool: Pool[Any], session: Session, topology: Topology, channel: AbstractChannel) -> None:
        self.pool, self.session, self.topology, self.channel = pool, session, topology, channel
        self.metrics = Metrics()

    def relay(self, sweep_seconds: float = 1.0) -> Relay:
        return Relay(self.pool, self.session, "executor", self.metrics, sweep_seconds)

    async def waiting(self, queue: str) -> list[bytes]:
        """Take everything out of a queue."""
        found = []
        remote = await self.channel.get_queue(queue, ensure=False)
        while (message := await remote.get(fail=False, no_ack=True)) is not None:
            found.append(message.body)
        return found
