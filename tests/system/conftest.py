"""Fixtures of the system tests: a deployment of the test's own, a gate, and a wire to the broker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import aio_pika
import asyncpg
import pytest

from interlock.adapters.declarations import Declarations
from interlock.contract.topology import Topology
from tests.system.deployment import Deployment
from tests.system.gate import Gate
from tests.system.nursery import Nursery
from tests.system.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from interlock.local.stack import Endpoints


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where the executors of these tests come from."""
    with Nursery() as opened:
        yield opened


@pytest.fixture
async def deployment(
    database_url: str, role_urls: Endpoints, prefix: str, tmp_path: Path, nursery: Nursery
) -> AsyncIterator[Deployment]:
    """An empty deployment with its topology declared; daemons are the test's to start, their end is checked."""
    async with await aio_pika.connect(role_urls.amqp_url) as broker:
        await Declarations(Topology(prefix)).declare_all(broker)
    connection = await asyncpg.connect(database_url)
    made = Deployment(connection, replace(role_urls, database_url=database_url), prefix, tmp_path, nursery)
    try:
        yield made
    finally:
        try:
            await made.close()
        finally:
            await connection.close()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gate for executions to wait at."""
    async with Gate(tmp_path / "gate") as opened:
        yield opened


@pytest.fixture
async def broker_wire(role_urls: Endpoints) -> AsyncIterator[Wire]:
    """A wire to the broker that a test may cut."""
    async with Wire(role_urls.amqp_url) as opened:
        yield opened


@pytest.fixture
async def database_wire(role_urls: Endpoints) -> AsyncIterator[Wire]:
    """A wire to the database that a test may cut."""
    async with Wire(role_urls.database_url) as opened:
        yield opened
