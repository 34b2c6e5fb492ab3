"""The RabbitMQ session of one process: connect, declare, publish with confirms, consume, and prove that it all works.

Crash-only: at any doubt (a closed channel, a missed canary) both connections are dropped, and everything is declared
and consumed anew. Publishing and consuming have a connection each, as a memory alarm blocks publishers. Decides
nothing about executions.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aio_pika
from aio_pika.exceptions import DeliveryError

from interlock.adapters.declarations import Declarations
from interlock.adapters.logs import get_logger
from interlock.adapters.properties import read_any_properties
from interlock.adapters.subscription import Subscription, broker_errors
from interlock.contract import events
from interlock.contract.errors import Misconfigured, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

    from interlock.adapters.health import Readiness
    from interlock.contract.topology import Binding, Queue, Topology

CONNECT_SECONDS: Final = 5
PUBLISH_SECONDS: Final = 10
CANARY_SECONDS: Final = 5
CANARY_MISSED_SECONDS: Final = 15
LONGEST_BACKOFF: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to publish. `exchange` is the name without the prefix; `id` is the outbox row, 0 if there is none."""

    id: int
    exchange: str
    routing_key: str
    events: int
    body: bytes


class Session:
    """The connections of one process. `run` supervises until cancelled; `publish` and subscriptions survive outages."""

    def __init__(self, url: str, topology: Topology, process: str, readiness: Readiness) -> None:
        self._url = _with_heartbeat(url)
        self._topology = topology
        self._declarations = Declarations(topology)
        self._process = process
        self._readiness = readiness
        self._log = get_logger("amqp")
        self._links: list[AbstractConnection] = []
        self._exchanges: dict[str, AbstractExchange] = {}
        # One for all looks: the library keeps something of each channel of a connection, closed or not.
        self._inspecting: AbstractChannel | None = None
        self._pools: set[str] = set()  # pool queues this connection has seen; a cache of the broker, never of the truth
        self._broken = asyncio.Event()
        self._reason = ""
        self._canary_at = 0.0
        self._control = Subscription(topology.control_queue(process), prefetch=100)
        self._subscriptions: list[tuple[Subscription, Binding | None]] = [
            (self._control, topology.control_binding(process))
        ]

    @property
    def connected(self) -> bool:
        """Whether messages can be published now."""
        return bool(self._exchanges) and not self._broken.is_set()

    def subscribe(self, queue: Queue, *, binding: Binding | None = None, prefetch: int = 100) -> Subscription:
        """Consume `queue` from the next connect on; `binding` is declared with it where it is missing."""
        subscription = Subscription(queue, prefetch=prefetch)
        self._subscriptions.append((subscription, binding))
        return subscription

    async def start(self) -> None:
        """Connect for the first time. Raises Unavailable or Misconfigured, each in one line."""
        read_any_properties()
        try:
            with broker_errors():
                await self._connect()
        except Transient as error:
            await self._drop()
            parts = urlsplit(self._url)
            reason = " ".join((str(error) or type(error).__name__).split())
            message = (
                f"RabbitMQ at {parts.hostname}:{parts.port or 5672} cannot be reached ({reason}): "
                "check INTERLOCK_AMQP_URL and the broker"
            )
            raise Unavailable(message) from error

    async def run(self) -> None:
        """Keep the session alive: wait until it breaks, drop it, connect again; for ever."""
        tries = 0
        while True:
            if self.connected:
                await self._broken.wait()
                self._readiness.set("broker", ok=False, reason=self._reason)
            await self._drop()
            tries += 1
            # Jitter keeps many processes from knocking at a returning broker at once.
            await asyncio.sleep(random.uniform(0.1, min(LONGEST_BACKOFF, 0.2 * 2**tries)))  # noqa: S311 - not a secret
            try:
                with broker_errors():
                    await self._connect()
                tries = 0
            except (Transient, Misconfigured) as error:
                self._reason = f"cannot connect: {error}"
                self._readiness.set("broker", ok=False, reason=self._reason)

    async def close(self) -> None:
        """Drop both connections; what was not acknowledged goes back to its queue."""
        await self._drop()

    def distrust(self, reason: str) -> None:
        """Something does not work as it should: rebuild the session."""
        self._reason = reason
        self._broken.set()

    async def publish(self, batch: Sequence[Message]) -> tuple[list[int], dict[int, str]]:
        """Publish with confirms, all at once. Returns the confirmed ids, and the unroutable ones with their reason.

        What is in neither is unknown: the session broke, publish it again.
        """
        if not self.connected:
            return [], {}
        results = await asyncio.gather(*(self._publish_one(message) for message in batch), return_exceptions=True)
        confirmed: list[int] = []
        unroutable: dict[int, str] = {}
        for message, result in zip(batch, results, strict=True):
            if result is None:
                confirmed.append(message.id)
            elif isinstance(result, DeliveryError):
                self._pools.discard(message.routing_key)
                unroutable[message.id] = f"{message.exchange}/{message.routing_key}: no queue takes it"
            elif isinstance(result, Transient):
                self.distrust(f"publishing failed: {result}")
            else:
                raise result
        return confirmed, unroutable

    async def _publish_one(self, message: Message) -> None:
        with broker_errors():
            await self._publish(message)

    async def _publish(self, message: Message) -> None:
        exchange = self._exchanges.get(message.exchange)
        if exchange is None:
            raise Transient("not connected")
        if message.exchange == "dispatch" and message.routing_key not in self._pools:
            await self._ensure_pool(message.routing_key)
        await exchange.publish(
            # The library gives each publish a message id of its own: one that is still in flight must not come again.
            aio_pika.Message(
                message.body,
                content_type=events.SINGLE if message.events == 1 else events.BATCH,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            message.routing_key,
            # A control queue is gone with its process: the renewal carries what it missed.
            mandatory=message.exchange != "control",
            timeout=PUBLISH_SECONDS,
        )

    async def _ensure_pool(self, pool: str) -> None:
        consuming = self._links[1]
        await self._declarations.declare_queue(
            consuming, self._topology.pool_queue(pool), self._topology.pool_binding(pool)
        )
        self._pools.add(pool)

    async def listen(self, handle: Callable[[events.Event], Awaitable[None]]) -> None:
        """Take what comes to this process: canaries are answered here, everything else goes to `handle`."""
        while True:
            await self._control.wait()
            while (delivery := self._control.pop()) is not None:
                found, _ = events.decode(delivery.body, delivery.content_type)
                await self._control.ack(delivery)
                for event in found:
                    if isinstance(event, events.Canary):
                        self._canary_at = asyncio.get_running_loop().time()
                    else:
                        await handle(event)

    async def watch(self) -> None:
        """Prove every few seconds that this session publishes and consumes, and that its queues have consumers."""
        number = 0
        while True:
            await asyncio.sleep(CANARY_SECONDS)
            if not self.connected:
                continue
            number += 1
            canary = events.Canary(
                specversion="1.0",
                id=f"{self._process}/{number}",
                source=f"/process/{self._process}",
                type="worker.canary",
                data=events.CanaryData(number=number),
            )
            body, _ = events.encode([canary])
            await self.publish([Message(id=0, exchange="control", routing_key=self._process, events=1, body=body)])
            if asyncio.get_running_loop().time() - self._canary_at > CANARY_MISSED_SECONDS:
                self.distrust(f"no canary for {CANARY_MISSED_SECONDS} s: the consumer does not consume")
            elif self.connected:
                await self._count_consumers()

    async def _count_consumers(self) -> None:
        try:
            with broker_errors():
                for subscription, _ in self._subscriptions:
                    if subscription.consuming and not subscription.queue.exclusive and self._inspecting is not None:
                        queue = await self._inspecting.declare_queue(
                            subscription.queue.name, passive=True, timeout=CONNECT_SECONDS
                        )
                        if queue.declaration_result.consumer_count == 0:
                            self.distrust(f"nobody consumes {subscription.queue.name}")
        except Transient as error:
            self.distrust(f"a queue cannot be inspected: {error}")

    async def _connect(self) -> None:
        self._broken = asyncio.Event()
        publishing = await aio_pika.connect(self._url, timeout=CONNECT_SECONDS)
        self._links = [publishing]
        consuming = await aio_pika.connect(self._url, timeout=CONNECT_SECONDS)
        self._links.append(consuming)
        for connection in self._links:
            connection.close_callbacks.add(self._on_close)
        await self._declarations.declare_all(consuming)
        for subscription, binding in self._subscriptions:
            if binding is not None:
                await self._declarations.declare_queue(consuming, subscription.queue, binding)
        channel = await publishing.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(self._on_close)
        self._inspecting = await consuming.channel(publisher_confirms=False)
        for subscription, _ in self._subscriptions:
            await subscription.attach(await self._consumer_channel(consuming))
        prefix = len(self._topology.prefix) + 1
        self._pools.clear()
        self._exchanges = {
            exchange.name[prefix:]: await channel.get_exchange(exchange.name, ensure=False)
            for exchange in self._topology.exchanges
        }
        self._canary_at = asyncio.get_running_loop().time()
        self._readiness.set("broker", ok=True)
        self._log.info("connected", broker=urlsplit(self._url).hostname)

    async def _consumer_channel(self, connection: AbstractConnection) -> AbstractChannel:
        channel = await connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(self._on_close)
        return channel

    def _on_close(self, sender: object, error: BaseException | None = None) -> None:
        del sender
        if self._exchanges:
            self.distrust(f"the broker closed the connection: {error}")

    async def _drop(self) -> None:
        self._exchanges = {}
        for subscription, _ in self._subscriptions:
            subscription.detach()
        links, self._links = self._links, []
        for connection in links:
            try:
                with broker_errors():
                    async with asyncio.timeout(CONNECT_SECONDS):
                        await connection.close()
            except Transient as error:
                self._log.debug("closing a broken connection", reason=str(error))


def _with_heartbeat(url: str) -> str:
    """Notice a dead peer within 20 s rather than minutes, unless the URL says otherwise."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode({"heartbeat": "10", **query})))
