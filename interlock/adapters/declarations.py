"""Declares the topology on a connection: looks first, and declares only where something is missing.

Roles may not declare everything: what the owner or the broker's definitions made is taken as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused

from interlock.adapters.logs import get_logger
from interlock.contract.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractChannel, AbstractConnection

    from interlock.contract.topology import Binding, Exchange, Queue, Topology


class Declarations:
    """The shared exchanges, queues and routes of one topology, and single queues on demand."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._log = get_logger("declarations")

    async def declare_all(self, connection: AbstractConnection) -> None:
        """Make sure that everything shared is there. Raises Misconfigured where it is not and may not be declared."""
        for exchange in self._topology.exchanges:
            await self._declare_exchange(connection, exchange)
        for queue in self._topology.queues:
            for binding in self._topology.bindings:
                if binding.queue == queue.name:
                    await self.declare_queue(connection, queue, binding)

    async def _declare_exchange(self, connection: AbstractConnection, exchange: Exchange) -> None:
        async def declare(channel: AbstractChannel, *, passive: bool) -> None:
            await channel.declare_exchange(
                exchange.name, aio_pika.ExchangeType(exchange.type), durable=True, passive=passive
            )

        await self._passively_first(connection, declare, f"exchange {exchange.name}")

    async def declare_queue(self, connection: AbstractConnection, queue: Queue, binding: Binding) -> None:
        """Make sure that a queue and its route are there."""

        async def declare(channel: AbstractChannel, *, passive: bool) -> None:
            await channel.declare_queue(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.exclusive,
                passive=passive,
                arguments=dict(queue.arguments),
            )

        await self._passively_first(connection, declare, f"queue {queue.name}")
        await self._bind(connection, binding)

    async def _passively_first(
        self, connection: AbstractConnection, declare: Callable[..., Awaitable[None]], what: str
    ) -> None:
        """Look whether it is there, and declare it only where it is missing: roles may not declare everything."""
        try:
            async with connection.channel() as channel:
                await declare(channel, passive=True)
        except ChannelNotFoundEntity:
            try:
                async with connection.channel() as channel:
                    await declare(channel, passive=False)
            except ChannelAccessRefused as error:
                message = f"{what} is missing and this broker user may not declare it: load the definitions first"
                raise Misconfigured(message) from error

    async def _bind(self, connection: AbstractConnection, binding: Binding) -> None:
        try:
            async with connection.channel() as channel:
                queue = await channel.get_queue(binding.queue, ensure=False)
                await queue.bind(binding.exchange, binding.routing_key)
        except ChannelAccessRefused:
            # Whoever owns the queue bound it; a route that is missing shows as an unroutable message.
            self._log.debug("left the binding to its owner", queue=binding.queue)
