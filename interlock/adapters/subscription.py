"""One consumer that outlives its connections: what arrived and is not acknowledged yet, in order.

Natural batching: whoever consumes takes everything that has arrived since the last time. Acknowledging a delivery of a
connection that is gone does nothing: it will be delivered again. Decodes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from interlock.adapters.logs import get_logger

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

    from interlock.contract.topology import Queue


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came; `channel` tells which connection may acknowledge it."""

    body: bytes
    content_type: str | None
    message: AbstractIncomingMessage
    channel: AbstractChannel


class Subscription:
    """A queue being consumed. `attach` and `detach` are the session's; the rest is for the one consumer."""

    def __init__(self, queue: Queue, *, prefetch: int) -> None:
        self.queue = queue
        self._prefetch = prefetch
        self._buffer: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._channel: AbstractChannel | None = None
        self._remote: AbstractQueue | None = None
        self._tag: str | None = None
        self._wanted = True
        self._log = get_logger("subscription").bind(queue=queue.name)

    @property
    def consuming(self) -> bool:
        """Whether the broker should be sending to us now."""
        return self._tag is not None

    async def attach(self, channel: AbstractChannel) -> None:
        """A new connection: consume from it."""
        self._buffer.clear()
        self._channel = channel
        await channel.set_qos(prefetch_count=self._prefetch)
        self._remote = await channel.get_queue(self.queue.name, ensure=False)
        if self._wanted:
            await self._consume()

    def detach(self) -> None:
        """The connection is gone; what was not acknowledged will be delivered again."""
        self._buffer.clear()
        self._channel = self._remote = self._tag = None

    async def _consume(self) -> None:
        channel, remote = self._channel, self._remote
        if channel is None or remote is None:
            return

        async def arrive(message: AbstractIncomingMessage) -> None:
            if not self._wanted:
                await message.nack(requeue=True)  # it crossed with the pause
            elif self._channel is channel:
                self._buffer.append(Delivery(message.body, message.content_type, message, channel))
                self._arrived.set()

        self._tag = await remote.consume(arrive)

    async def wait(self) -> None:
        """Return when something has arrived."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()

    def pop(self) -> Delivery | None:
        """The oldest delivery that nobody took yet."""
        return self._buffer.popleft() if self._buffer else None

    async def ack(self, last: Delivery) -> None:
        """Acknowledge `last` and everything before it."""
        if last.channel is self._channel:
            try:
                await last.message.ack(multiple=True)
            except (AMQPError, ChannelInvalidStateError, OSError) as error:
                self._log.debug("not acknowledged, will come again", reason=str(error))

    async def pause(self) -> None:
        """Stop consuming and give back what was not taken, so that others get it."""
        self._wanted = False
        remote, tag, self._tag = self._remote, self._tag, None
        try:
            if remote is not None and tag is not None:
                await remote.cancel(tag)
            while self._buffer:
                await self._buffer.popleft().message.nack(requeue=True)
        except (AMQPError, ChannelInvalidStateError, OSError) as error:
            self._log.debug("the broker takes it back by itself", reason=str(error))

    async def resume(self) -> None:
        """Consume again, now or from the next connect on."""
        if self._wanted:
            return
        self._wanted = True
        try:
            await self._consume()
        except (AMQPError, ChannelInvalidStateError, OSError) as error:
            self._log.debug("consumes from the next connect on", reason=str(error))
