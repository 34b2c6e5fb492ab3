"""What every other test stands on: an empty, migrated database and names of its own."""

from __future__ import annotations

import aio_pika
import asyncpg

from interlock.contract.topology import Topology


async def test_each_test_gets_a_migrated_database_of_its_own(database_url: str, server_url: str) -> None:
    assert database_url != server_url
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert "execution" in {row["tablename"] for row in tables}
        assert await connection.fetchval("SELECT count(*) FROM execution") == 0
    finally:
        await connection.close()


async def test_each_test_gets_names_on_the_broker_that_nobody_uses(amqp_url: str, prefix: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        queue = Topology(prefix).requests_queue
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        assert declared.declaration_result.message_count == 0
