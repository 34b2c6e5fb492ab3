"""Migrations: forward only, once, whole, and never in silence when something does not fit."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock import __version__
from interlock.adapters.migrations import Migration, available, migrate, status, verify
from interlock.contract.errors import Misconfigured
from tests.world import World, fresh_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@pytest.fixture
async def bare(server_url: str) -> AsyncIterator[World]:
    """A database without a schema."""
    name = f"bare_{fresh_id().hex[-12:]}"
    url = f"{server_url.rpartition('/')[0]}/{name}"
    server = await asyncpg.connect(server_url)
    try:
        await server.execute(f'CREATE DATABASE "{name}"')
        connection = await asyncpg.connect(url)
        yield World(connection, url)
        await connection.close()
        await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await server.close()


def files(*texts: str) -> list[Migration]:
    """Return migrations 1, 2, … of these texts."""
    return [
        Migration(number=n, name=f"m{n}", text=text, checksum=sha256(text.encode()).hexdigest(), min_daemon="0.0.1")
        for n, text in enumerate(texts, 1)
    ]


async def states(world: World, shipped: Sequence[Migration]) -> list[str]:
    return [state.state for state in await status(world.tx, shipped)]


def test_the_shipped_migrations_are_numbered_without_gaps_and_tell_their_purpose_and_oldest_daemon() -> None:
    shipped = available()
    assert [migration.number for migration in shipped] == list(range(1, len(shipped) + 1))
    for migration in shipped:
        assert migration.text.startswith("-- Why: "), migration.name
        assert migration.checksum == sha256(migration.text.encode()).hexdigest()
        assert re.fullmatch(r"\d+\.\d+\.\d+", migration.min_daemon)


async def test_migrations_are_applied_once_and_in_order(bare: World) -> None:
    shipped = files("CREATE TABLE a (x int)", "ALTER TABLE a ADD y int", "INSERT INTO a VALUES (1, 2)")
    assert await states(bare, shipped) == ["pending"] * 3
    assert await migrate(bare.tx, shipped[:2]) == ["0001_m1", "0002_m2"]
    assert await states(bare, shipped) == ["applied", "applied", "pending"]
    assert await migrate(bare.tx, shipped) == ["0003_m3"]
    assert await migrate(bare.tx, shipped) == []
    assert await bare.tx.fetchval("SELECT count(*) FROM a") == 1
    await verify(bare.tx, shipped)


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_everything_before_it(bare: World) -> None:
    shipped = files("CREATE TABLE a (x int)", "CREATE TABLE b (x int); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(bare.tx, shipped)
    assert await states(bare, shipped) == ["applied", "pending"]
    assert await bare.tx.fetchval("SELECT to_regclass('b')") is None
    assert (
        await bare.tx.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        == 0
    )


async def test_a_changed_file_is_refused_before_anything_is_applied(bare: World) -> None:
    shipped = files("CREATE TABLE a (x int)", "CREATE TABLE b (x int)")
    await migrate(bare.tx, shipped[:1])
    changed = [replace(shipped[0], checksum="other"), shipped[1]]
    with pytest.raises(Misconfigured, match=r"^migration 0001_m1 was applied with other content"):
        await migrate(bare.tx, changed)
    with pytest.raises(Misconfigured, match=r"^migration 0001_m1 was applied with other content"):
        await verify(bare.tx, changed)
    assert await states(bare, changed) == ["changed", "pending"]
    assert await bare.tx.fetchval("SELECT to_regclass('b')") is None


async def test_a_daemon_does_not_start_on_a_schema_that_is_behind(bare: World) -> None:
    shipped = files("SELECT 1", "SELECT 2")
    with pytest.raises(
        Misconfigured, match="the schema is at 0000 and this version needs 0002: run `interlock migrate`"
    ):
        await verify(bare.tx, shipped)
    await migrate(bare.tx, shipped[:1])
    with pytest.raises(Misconfigured, match="the schema is at 0001 and this version needs 0002"):
        await verify(bare.tx, shipped)


async def test_a_newer_schema_is_accepted_until_it_says_that_this_daemon_is_too_old(bare: World) -> None:
    first, second, third = files("SELECT 1", "SELECT 2", "SELECT 3")
    await migrate(bare.tx, [first, replace(second, min_daemon=__version__)])
    await verify(bare.tx, [first])
    assert await states(bare, [first]) == ["applied", "unknown"]
    await migrate(bare.tx, [first, second, replace(third, min_daemon="999.0.0")])
    with pytest.raises(Misconfigured, match=f"needs daemons of version 999.0.0 or later and this is {__version__}"):
        await verify(bare.tx, [first])


async def test_versions_are_compared_by_number_and_not_by_letter(bare: World) -> None:
    first, second = files("SELECT 1", "SELECT 2")
    await migrate(bare.tx, [replace(first, min_daemon="900.0"), replace(second, min_daemon="1000.0")])
    with pytest.raises(Misconfigured, match=r"version 1000\.0 or later"):
        await verify(bare.tx, [])


async def test_two_migrations_at_once_wait_for_each_other_and_apply_everything_once(bare: World) -> None:
    async with bare.another() as other:
        done = await asyncio.gather(migrate(bare.tx), migrate(other.tx))
    assert sorted(len(names) for names in done) == [0, len(available())]
    await verify(bare.tx)
