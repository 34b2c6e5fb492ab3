"""Fixtures on real servers: a migrated database and a name prefix of its own for each test, and the roles' addresses.

The servers are those of `./dev test`, or any that INTERLOCK_DATABASE_URL and INTERLOCK_AMQP_URL name.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
import pytest

from interlock.adapters.migrations import migrate
from interlock.contract.topology import Topology
from interlock.local.stack import FILE, Endpoints

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def _given(name: str) -> str:
    """Return an address from the environment; a test must never find a server by luck."""
    url = os.environ.get(name)
    if not url:
        pytest.fail(f"{name} is not set: run the tests with `./dev test`", pytrace=False)
    return url


def _database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


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
def template_name() -> str:
    """The name of the migrated template database: another one as soon as a migration changes."""
    digest = hashlib.sha256()
    for file in sorted(MIGRATIONS.rglob("*.sql")):
        digest.update(file.name.encode() + file.read_bytes())
    return f"template_{digest.hexdigest()[:12]}"


@pytest.fixture
async def database_url(server_url: str, template_name: str) -> AsyncIterator[str]:
    """The address of a migrated, empty database of this test's own."""
    name = f"test_{secrets.token_hex(6)}"
    server = await asyncpg.connect(server_url)
    try:
        await _ensure_template(server, server_url, template_name)
        await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template_name}"')
        yield _database(server_url, name)
        await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await server.close()


async def _ensure_template(server: asyncpg.Connection, server_url: str, name: str) -> None:
    """Migrate the template once, whichever of the concurrent test processes comes first."""
    if await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        return
    await server.execute("SELECT pg_advisory_lock(hashtext($1))", name)
    try:
        if await server.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            return
        # It gets its name only when it is complete.
        partial = f"{name}_{secrets.token_hex(3)}"
        await server.execute(f'CREATE DATABASE "{partial}"')
        connection = await asyncpg.connect(_database(server_url, partial))
        try:
            await migrate(connection)
        finally:
            await connection.close()
        await server.execute(f'ALTER DATABASE "{partial}" RENAME TO "{name}"')
    finally:
        await server.execute("SELECT pg_advisory_unlock(hashtext($1))", name)


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
