"""Databases for tests: made from a migrated template, used by one test after the other, emptied in between.

To make and drop one each would take a quarter of the suite's time. What has more to it than rows is dropped, never
emptied: another schema, statistics that plans depend on, a large table, somebody who is still connected.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from interlock.adapters.migrations import migrate
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"
MOST_BYTES: Final = 4_000_000
"""A table that has grown beyond this makes its database slower to empty than to drop."""
GONE_WITHIN: Final = 2.0
"""Seconds in which what a test has closed must be gone."""

_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# A copy has the object and row versions of its template, so what a test makes anew or alters is told by either.
_SHAPE: Final = """
SELECT md5(string_agg(what, ',' ORDER BY what)) FROM (
    SELECT concat_ws(' ', 'class', oid, relname, reloptions, reltuples) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'
    UNION ALL SELECT 'column ' || attrelid || ' ' || attname || ' ' || a.xmin FROM pg_attribute a
    JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    UNION ALL SELECT 'function ' || oid || ' ' || xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger ' || oid || ' ' || xmin FROM pg_trigger
    UNION ALL SELECT 'constraint ' || oid || ' ' || xmin FROM pg_constraint
) shape (what)
"""
_LEDGER: Final = "SELECT array_agg(m::text ORDER BY m) FROM migration m"
_LARGEST: Final = """
SELECT max(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""
_EMPTY: Final = """
SELECT string_agg(format('DELETE FROM %I', relname), '; ') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'migration'
"""
_REWIND: Final = (
    "SELECT setval(oid, 1, false) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"
)
_SEED: Final = "INSERT INTO reaper_tick DEFAULT VALUES"


async def empty(connection: asyncpg.Connection) -> None:
    """Bring every table and sequence to where the migrations left it."""
    async with connection.transaction():
        await connection.execute(await connection.fetchval(_EMPTY))
        await connection.execute(_REWIND)
        await connection.execute(_SEED)


class Databases:
    """The databases of one test process on one server. Two tests never use one at the same time."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._template = f"template_{_digest()}"
        self._shape: str | None = None
        self._ledger: list[str] | None = None
        self._free: list[str] = []

    async def take(self) -> str:
        """Return the address of a migrated, empty database."""
        return self._free.pop() if self._free else await self._make()

    async def give_back(self, url: str) -> None:
        """Empty a database for the next test, or drop it."""
        if await self._is_emptied(url):
            self._free.append(url)
        else:
            await self._drop(url)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[str]:
        """Take one and give it back."""
        url = await self.take()
        try:
            yield url
        finally:
            await self.give_back(url)

    async def close(self) -> None:
        """Drop all that nobody has taken."""
        while self._free:
            await self._drop(self._free.pop())

    async def _make(self) -> str:
        url = self._url(f"test_{secrets.token_hex(6)}")
        async with _connected(self._server_url) as server:
            await self._ensure_template(server)
            await server.execute(f'CREATE DATABASE "{_name(url)}" TEMPLATE "{self._template}"')
        if self._shape is None:
            async with _connected(url) as connection:
                self._shape = await connection.fetchval(_SHAPE)
                self._ledger = await connection.fetchval(_LEDGER)
        return url

    async def _drop(self, url: str) -> None:
        async with _connected(self._server_url) as server:
            await server.execute(f'DROP DATABASE "{_name(url)}" WITH (FORCE)')

    async def _is_emptied(self, url: str) -> bool:
        async with _connected(url) as connection:

            async def is_alone() -> bool:
                return bool(await connection.fetchval(_OTHERS) == 0)

            try:
                await eventually(is_alone, GONE_WITHIN)
            except AssertionError:
                return False
            if await connection.fetchval(_SHAPE) != self._shape or await connection.fetchval(_LEDGER) != self._ledger:
                return False
            if await connection.fetchval(_LARGEST) > MOST_BYTES:
                return False
            await empty(connection)
            return True

    async def _ensure_template(self, server: asyncpg.Connection) -> None:
        """Migrate the template once, whichever of the concurrent test processes comes first."""
        known = "SELECT 1 FROM pg_database WHERE datname = $1"
        if await server.fetchval(known, self._template):
            return
        await server.execute("SELECT pg_advisory_lock(hashtext($1))", self._template)
        try:
            if await server.fetchval(known, self._template):
                return
            # It gets its name only when it is complete.
            partial = f"{self._template}_{secrets.token_hex(3)}"
            await server.execute(f'CREATE DATABASE "{partial}"')
            async with _connected(self._url(partial)) as connection:
                await migrate(connection)
            await server.execute(f'ALTER DATABASE "{partial}" RENAME TO "{self._template}"')
        finally:
            await server.execute("SELECT pg_advisory_unlock(hashtext($1))", self._template)

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))


def _name(url: str) -> str:
    return urlsplit(url).path[1:]


def _digest() -> str:
    """Name the migrations' content, so that a changed migration makes another template."""
    digest = hashlib.sha256()
    for file in sorted(MIGRATIONS.rglob("*.sql")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
