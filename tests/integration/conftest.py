"""The stages of integration tests: one database after the other, audited behind each test, or one of a test's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg
import pytest

from executor.loops.periodic import Context
from interlock.acceptance.catalog import Catalog
from interlock.adapters.amqp import Session
from interlock.adapters.health import Readiness
from interlock.adapters.outbox import Relay
from interlock.adapters.postgres import open_pool
from interlock.adapters.telemetry import Metrics
from interlock.client.client import Client
from interlock.contract.topology import Topology
from tests.wire import Wire
from tests.world import ACTOR, World, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from asyncpg import Pool

    from tests.databases import Databases


@pytest.fixture(scope="session")
def stage_url(databases: Databases) -> Iterator[str]:
    """The address of a migrated database that tests use one after the other, whoever empties it."""
    url = asyncio.run(databases.take())
    yield url
    asyncio.run(databases.give_back(url))


@pytest.fixture
async def world(stage_url: str) -> AsyncIterator[World]:
    """An emptied database with the action `job` and one worker of 100 places; audited at the end of the test."""
    async with opened(stage_url) as world:
        await world.empty()
        await world.register()
        world.hand = await world.worker()
        yield world
        await world.audit()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own look at the database of its own."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    """A client of the database of its own."""
    async with Client.connect(database_url) as client:
        yield client


@pytest.fixture
async def context(world: World) -> AsyncIterator[Context]:
    """What the executor's loops get; there is no broker, so that what they write stays in the outbox."""
    pool = await open_pool(world.url, application="test", size=2)
    metrics, readiness = Metrics(), Readiness("database")
    relay = Relay(pool, Session("amqp://nowhere/", Topology(), "test", readiness), "executor", metrics, 1.0)
    # Nobody has looked away, unless the test says so.
    await world.tx.execute("UPDATE reaper_tick SET ticked_at = now(), observe_until = NULL, suspected_at = NULL")
    yield Context(pool=pool, relay=relay, actor=ACTOR, catalog=Catalog(), metrics=metrics, readiness=readiness)
    await pool.close()


@pytest.fixture
async def pool(world: World) -> AsyncIterator[Pool[Any]]:
    """A daemon's pool of connections to the test's database."""
    pool = await open_pool(world.url, application="test", size=3)
    yield pool
    await pool.close()


@pytest.fixture
async def wire(pool: Pool[Any], amqp_url: str, prefix: str) -> AsyncIterator[Wire]:
    """What stands between both servers; its session is not started yet."""
    topology = Topology(prefix)
    session = Session(amqp_url, topology, "test", Readiness())
    async with await aio_pika.connect(amqp_url) as connection:
        yield Wire(pool, session, topology, await connection.channel())
    await session.close()
