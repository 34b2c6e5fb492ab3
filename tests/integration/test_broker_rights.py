"""Law 3 as the broker keeps it: an executor that tries to publish a completion is refused by RabbitMQ itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from interlock.contract.topology import Topology

if TYPE_CHECKING:
    from interlock.local.stack import Endpoints

# The shared topology is there on a stack of our own; rights are judged before routing, so nobody needs to consume.
NAMES = Topology()
ROLES = ("executor", "worker", "client")


async def publish(url: str, exchange: str, routing_key: str) -> None:
    """Publish one message with a confirm; nothing may come of it, as no queue takes such a key."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}"), routing_key, mandatory=False, timeout=10)


@pytest.fixture
async def declared(amqp_url: str, prefix: str) -> Topology:
    """Exchanges of this test's own, which the roles' rights cover like those of production."""
    topology = Topology(prefix)
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        for exchange in topology.exchanges:
            await channel.declare_exchange(exchange.name, aio_pika.ExchangeType(exchange.type), durable=True)
    return topology


@pytest.mark.parametrize("role", ROLES)
async def test_the_broker_lets_each_role_write_where_the_topology_says_and_nowhere_else(
    role_urls: Endpoints, declared: Topology, role: str
) -> None:
    url = getattr(role_urls, role)
    for exchange in declared.exchanges:
        if role in exchange.writers:
            await publish(url, exchange.name, "nobody")
        else:
            with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
                await publish(url, exchange.name, "nobody")


async def test_only_the_worker_may_publish_a_completion(role_urls: Endpoints, declared: Topology) -> None:
    await publish(role_urls.worker, declared.completions.name, "execution.completed.completed")
    for url in (role_urls.executor, role_urls.client):
        with pytest.raises(ChannelAccessRefused, match=f"access to exchange '{declared.completions.name}'"):
            await publish(url, declared.completions.name, "execution.completed.completed")


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_may_put_a_message_into_a_queue_past_its_exchange(role_urls: Endpoints, role: str) -> None:
    with pytest.raises(ChannelAccessRefused, match=r"amq\.default"):
        await publish(getattr(role_urls, role), "", NAMES.completed_queue.name)
