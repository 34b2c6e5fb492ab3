"""What every other test stands on: an empty, migrated database and names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg
import pytest

from interlock.contract.topology import Topology
from tests.databases import Databases
from tests.world import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAITING = "INSERT INTO waiting (lane_id, seq, execution_id) SELECT 1, n, gen_random_uuid() FROM"


@pytest.fixture
async def own(server_url: str) -> AsyncIterator[Databases]:
    """Databases of this test alone."""
    own = Databases(server_url)
    yield own
    await own.close()


async def contents(url: str) -> dict[str, Any]:
    """Return every row of every table, with the next number of every sequence, but for the time."""
    async with opened(url) as world:
        tables = await world.tx.fetch(
            "SELECT relname AS name, CASE relkind WHEN 'S' THEN 'last_value, is_called' ELSE '*' END AS columns"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')"
        )
        rows: dict[str, Any] = {
            table["name"]: await world.tx.fetch(f'SELECT {table["columns"]} FROM "{table["name"]}"')  # noqa: S608 - our names
            for table in tables
        }
        rows["reaper_tick"] = [{**row, "ticked_at": row["ticked_at"].tzinfo} for row in rows["reaper_tick"]]
        return rows


async def test_each_test_gets_a_migrated_database_that_is_as_the_migrations_left_it(own: Databases) -> None:
    async with own.one() as url:
        fresh = await contents(url)
        async with opened(url) as world:
            await world.register()
            await world.submit(3)
            await world.tx.execute("UPDATE reaper_tick SET suspected_at = now()")
        assert await contents(url) != fresh
    async with own.one() as again:
        assert (again, await contents(again)) == (url, fresh)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more ()",
        "ALTER TABLE execution ADD COLUMN more int",
        "ALTER TABLE execution SET (fillfactor = 90)",
        "ALTER TABLE execution DISABLE TRIGGER ALL",
        "CREATE OR REPLACE FUNCTION is_terminal(s status) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "DELETE FROM migration",
        "DROP TABLE migration",
        f"{WAITING} generate_series(1, 9) n; ANALYZE waiting",
        f"{WAITING} generate_series(1, 99999) n",
    ],
)
async def test_no_test_gets_a_database_that_another_has_changed_beyond_its_rows(own: Databases, change: str) -> None:
    async with own.one() as url, opened(url) as world:
        await world.tx.execute(change)
    async with own.one() as another:
        assert another != url


async def test_no_test_gets_a_database_that_somebody_is_connected_to(own: Databases) -> None:
    async with own.one() as url:
        connection = await asyncpg.connect(url)
    async with own.one() as another:
        assert another != url
    assert connection.is_closed()


async def test_each_test_gets_names_on_the_broker_that_nobody_uses(amqp_url: str, prefix: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        queue = Topology(prefix).requests_queue
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        assert declared.declaration_result.message_count == 0
