"""Fixtures on real servers: a migrated database and a name prefix of its own for each test, and the roles' addresses.

The servers are those of `./dev test`, or any that INTERLOCK_DATABASE_URL and INTERLOCK_AMQP_URL name.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import aio_pika
import pytest

from interlock.contract.topology import Topology
from interlock.local.stack import FILE, Endpoints
from tests.databases import Databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that at the end no process has to wait for it."""

    def order(item: pytest.Item) -> tuple[bool, float]:
        marker = item.get_closest_marker("timeout")
        return "/system/" not in item.nodeid, -float(marker.args[0]) if marker else 0.0

    items.sort(key=order)


def _given(name: str) -> str:
    """Return an address from the environment; a test must never find a server by luck."""
    url = os.environ.get(name)
    if not url:
        pytest.fail(f"{name} is not set: run the tests with `./dev test`", pytrace=False)
    return url


@pytest.fixture(scope="session")
def server_url() -> str:
    """The address of the database server's own database; tests must not write there."""
    return _given("INTERLOCK_DATABASE_URL")


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The broker's address for its owner, who may do everything."""
    return _given("INTERLOCK_AMQP_URL")


@pytest.fixture(scope="session")
def role_urls(server_url: str, amqp_url: str) -> Endpoints:
    """The broker's addresses for `.executor`, `.worker` and `.client`, with the rights each has in production."""
    folder = Path(os.environ.get("INTERLOCK_STATE", ""))
    if (folder / FILE).exists():
        return Endpoints.read(folder)
    return Endpoints.of_one_user(server_url, amqp_url)


@pytest.fixture(scope="session")
def databases(server_url: str) -> Iterator[Databases]:
    """The databases of this test process."""
    databases = Databases(server_url)
    yield databases
    asyncio.run(databases.close())


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """The address of a migrated, empty database of this test's own."""
    async with databases.one() as url:
        yield url


@pytest.fixture
async def prefix(amqp_url: str) -> AsyncIterator[str]:
    """A name prefix of this test's own; nothing is declared, and what the test declares is deleted."""
    name = f"t-{secrets.token_hex(6)}"
    yield name
    topology = Topology(name)
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        for queue in (*topology.queues, topology.pool_queue("default")):
            await channel.queue_delete(queue.name)
        for exchange in topology.exchanges:
            await channel.exchange_delete(exchange.name)
