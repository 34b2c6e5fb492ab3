"""Publishes as a client would: until the broker confirms, over as many connections as that takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aio_pika
from aio_pika.exceptions import DeliveryError

from interlock.adapters.subscription import broker_errors
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection

PAUSE = 0.2
PUBLISH_SECONDS = 10


class Sender:
    """One connection and one channel, made anew whenever they break."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._one = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def publish(self, exchange: str, key: str, body: bytes, content_type: str | None) -> None:
        """Publish one message to an exchange, or with an empty name to the queue `key`, and wait for the confirm."""
        while True:
            try:
                async with self._one:
                    with broker_errors():
                        return await self._try(exchange, key, body, content_type)
            except (Transient, DeliveryError):
                await self.close()
            await asyncio.sleep(PAUSE)

    async def _try(self, exchange: str, key: str, body: bytes, content_type: str | None) -> None:
        if self._channel is None:
            self._connection = await aio_pika.connect(self._url, timeout=5)
            self._channel = await self._connection.channel(on_return_raises=True)
        channel = self._channel
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        message = aio_pika.Message(body, content_type=content_type, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await target.publish(message, key, timeout=PUBLISH_SECONDS)

    async def delete_queue(self, name: str) -> None:
        """Delete one queue, on a connection of its own. Raises Transient if the broker cannot be reached."""
        with broker_errors():
            async with await aio_pika.connect(self._url, timeout=5) as connection, connection.channel() as channel:
                await channel.queue_delete(name)

    async def close(self) -> None:
        """End the connection; the next publish makes another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                with broker_errors():
                    await asyncio.wait_for(connection.close(), 5)
            except Transient:
                return  # it was broken: that is why it is closed
