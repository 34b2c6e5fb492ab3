"""One consumer that outlives its connections: what arrived and is not acknowledged yet, in order.

Natural batching: whoever consumes takes everything that has arrived since the last time. Acknowledging a delivery of a
connection that is gone does nothing: it will be delivered again. Decodes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aio_pika.exceptions import AMQPError, DeliveryError

from interlock.adapters.logs import get_logger
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

    from interlock.contract.topology import Queue


@contextmanager
def broker_errors() -> Iterator[None]:
    """Map to Transient what the library raises when a connection dies under a call; what a message did wrong passes.

    It has many words for that: its own errors, the socket's, RuntimeError, a bare Exception, a CancelledError that
    nobody asked for, and StopAsyncIteration where the line is cut before the broker's first word.
    """
    try:
        yield
    except DeliveryError:
        raise
    except (AMQPError, OSError, TimeoutError, RuntimeError, asyncio.InvalidStateError) as error:
        raise Transient(str(error) or type(error).__name__) from error
    except StopAsyncIteration as error:
        raise Transient("the connection was closed before the broker's first word") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Transient("the connection was closed under a call") from error
    except Exception as error:  # a bare one is what the library raises for a lost connection; others pass
        if type(error) is not Exception:
            raise
        raise Transient("the connection was lost under a call") from error


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
                with broker_errors():
                    await last.message.ack(multiple=True)
            except Transient as error:
                self._log.debug("not acknowledged, will come again", reason=str(error))

    async def pause(self) -> None:
        """Stop consuming and give back what was not taken, so that others get it."""
        self._wanted = False
        remote, tag, self._tag = self._remote, self._tag, None
        try:
            with broker_errors():
                if remote is not None and tag is not None:
                    await remote.cancel(tag)
                while self._buffer:
                    await self._buffer.popleft().message.nack(requeue=True)
        except Transient as error:
            self._log.debug("the broker takes it back by itself", reason=str(error))

    async def resume(self) -> None:
        """Consume again, now or from the next connect on."""
        if self._wanted:
            return
        self._wanted = True
        try:
            with broker_errors():
                await self._consume()
        except Transient as error:
            self._log.debug("consumes from the next connect on", reason=str(error))
