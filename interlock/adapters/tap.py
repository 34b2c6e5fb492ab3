"""Listens to a deployment's events from outside, with a client's rights, and can say them once more with a worker's.

For proofs: it counts, repeats and looks. Decides nothing, and writes nothing that was not written before.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aio_pika
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from interlock.adapters.declarations import Declarations
from interlock.contract import events
from interlock.contract.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

    from interlock.contract.topology import Topology

CONNECT_SECONDS: Final = 5
PUBLISH_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One event as it was sent: the exchange and routing key it came by, and the CloudEvent, unchanged."""

    exchange: str
    routing_key: str
    event: dict[str, Any]

    @property
    def id(self) -> str:
        """The event's id: the same however often it is sent."""
        return str(self.event["id"])

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event["type"])

    @property
    def subject(self) -> str:
        """The id of the execution that the event is about."""
        return str(self.event["data"]["id"])


@contextmanager
def _reachable() -> Iterator[None]:
    """Map what the broker or the way to it raises: nobody here waits for it to come back."""
    try:
        yield
    except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
        reason = " ".join((str(error) or type(error).__name__).split())
        raise Unavailable(f"RabbitMQ does not answer as it should ({reason}): check INTERLOCK_AMQP_URL") from error


class _Link:
    """One connection with one channel, for as long as the block lasts."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    @property
    def channel(self) -> AbstractChannel:
        """The channel, once connected."""
        if self._channel is None:
            raise RuntimeError("used outside of its block")
        return self._channel

    async def __aenter__(self) -> Self:
        with _reachable():
            self._connection = await aio_pika.connect(self._url, timeout=CONNECT_SECONDS)
            self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel = None
        if self._connection is not None:
            await self._connection.close()


class Tap(_Link):
    """Hears every completion and every move, on an exclusive queue of its own: `async with Tap(…):`.

    `name` ends the queue's name; `hear` is called for each event in the order of its exchange.
    """

    def __init__(self, url: str, topology: Topology, name: str, hear: Callable[[Heard], None]) -> None:
        super().__init__(url)
        self._topology = topology
        self._name = f"client.{name}"
        self._hear = hear

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        with _reachable():
            queue = await self.channel.declare_queue(self._name, durable=False, exclusive=True, auto_delete=True)
            await queue.bind(self._topology.completions.name, "execution.completed.#")
            await queue.bind(self._topology.status.name, "execution.status_changed.#")
            await queue.consume(self._arrive, no_ack=True)
        return self

    async def _arrive(self, message: AbstractIncomingMessage) -> None:
        document = json.loads(message.body)
        for event in document if isinstance(document, list) else [document]:
            self._hear(Heard(exchange=message.exchange or "", routing_key=message.routing_key or "", event=event))


class Repeater(_Link):
    """Says once more what was heard; only a worker's rights suffice for completions."""

    async def repeat(self, heard: Heard) -> None:
        """Send one event again, alone in its message, and wait until the broker has it."""
        message = aio_pika.Message(
            json.dumps(heard.event).encode(),
            content_type=events.SINGLE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        with _reachable():
            exchange = await self.channel.get_exchange(heard.exchange, ensure=False)
            await exchange.publish(message, heard.routing_key, timeout=PUBLISH_SECONDS)


class Ground(_Link):
    """The topology of one deployment on a broker, for whoever may declare it: made, measured, removed."""

    def __init__(self, url: str, topology: Topology) -> None:
        super().__init__(url)
        self._topology = topology

    async def declare(self) -> None:
        """Declare what is missing."""
        with _reachable():
            async with await aio_pika.connect(self._url, timeout=CONNECT_SECONDS) as connection:
                await Declarations(self._topology).declare_all(connection)

    async def waiting(self) -> int:
        """How many messages wait for the executors."""
        queues = (self._topology.completed_queue, self._topology.status_queue, self._topology.requests_queue)
        with _reachable():
            found = [await self.channel.declare_queue(queue.name, passive=True) for queue in queues]
        return sum(queue.declaration_result.message_count or 0 for queue in found)

    async def remove(self, *pools: str) -> None:
        """Delete every queue, those of `pools` too, and every exchange, with whatever is in them."""
        names = [queue.name for queue in (*self._topology.queues, *map(self._topology.pool_queue, pools))]
        with _reachable():
            # On a connection of its own: the other may be what broke.
            async with (
                await aio_pika.connect(self._url, timeout=CONNECT_SECONDS) as connection,
                connection.channel() as channel,
            ):
                for name in names:
                    await channel.queue_delete(name)
                for exchange in self._topology.exchanges:
                    await channel.exchange_delete(exchange.name)
