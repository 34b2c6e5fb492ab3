"""What a run costs: transactions, messages and WAL as PostgreSQL counts them, CPU and peak memory as the kernel does.

Backends report their counters late, and when they end: look at the counters once the daemons are gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from bench import processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg

    from bench.readings import Reading
    from interlock.local.stack import Endpoints

LOCAL: Final = ("127.0.0.1", "localhost", "::1")
_COUNTERS: Final = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())::float8 AS transactions,
       coalesce((SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'outbox'), 0)::float8 AS messages,
       coalesce((SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'batch'), 0)::float8 AS batch_updates,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS wal_bytes
"""
_OTHERS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What PostgreSQL counted so far: of this database, the WAL of the whole server."""

    transactions: float
    messages: float
    batch_updates: float
    wal_bytes: float


@dataclass(slots=True)
class Meter:
    """Watches groups of processes (`parts`: name and roots of trees) and the database of `connection`."""

    connection: asyncpg.Connection
    parts: Mapping[str, Sequence[int]]
    _cpu: dict[str, float] = field(default_factory=dict, init=False)
    _counters: Counters | None = field(default=None, init=False)

    async def begin(self) -> None:
        """Start from here."""
        self._counters = await counters(self.connection)
        self._cpu = self._seconds()

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each part since `begin`."""
        return {part: spent - self._cpu[part] for part, spent in self._seconds().items()}

    async def costs(self, cpu: Mapping[str, float], count: int, *, published: float = 0, looks: float = 0) -> Reading:
        """Return the costs for each of `count`, once everybody else has left the database.

        `published`: messages that did not go through the outbox. `looks`: transactions of whoever measures.
        """
        if self._counters is None:
            raise RuntimeError("the meter was not started")
        async with asyncio.timeout(30):
            while await self.connection.fetchval(_OTHERS):  # noqa: ASYNC110 - it watches other processes
                await asyncio.sleep(0.02)
        after = await counters(self.connection)
        after = replace(after, transactions=after.transactions - looks, messages=after.messages + published)
        return per_execution(self._counters, after, cpu, count)

    def _seconds(self) -> dict[str, float]:
        found = processes.processes()
        return {part: processes.seconds(found, roots) for part, roots in self.parts.items()}


async def counters(connection: asyncpg.Connection) -> Counters:
    """Read the counters, as fresh as PostgreSQL has them."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    row = await connection.fetchrow(_COUNTERS)
    if row is None:
        raise RuntimeError("a SELECT without FROM returned no row")
    return Counters(**dict(row))


def per_execution(before: Counters, after: Counters, cpu: Mapping[str, float], count: int) -> Reading:
    """Divide what was spent by the number of executions; CPU in microseconds, in all and by part. Pure."""
    return {
        "transactions": (after.transactions - before.transactions) / count,
        "messages": (after.messages - before.messages) / count,
        "batch_updates": (after.batch_updates - before.batch_updates) / count,
        "wal_bytes": (after.wal_bytes - before.wal_bytes) / count,
        "cpu_us": sum(cpu.values()) / count * 1e6,
        **{f"cpu_us.{part}": spent / count * 1e6 for part, spent in cpu.items()},
    }


async def servers(connection: asyncpg.Connection, endpoints: Endpoints) -> dict[str, list[int]]:
    """Find the processes of the two servers; a server on another machine has none here, and costs nothing."""
    parts: dict[str, list[int]] = {}
    found = processes.processes()
    if urlsplit(endpoints.database_url).hostname in LOCAL:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        parts["database"] = [found[backend].parent] if backend in found else []
    broker = urlsplit(endpoints.amqp_url)
    if broker.hostname in LOCAL:
        pid = processes.listener(broker.port or 5672)
        parts["broker"] = [] if pid is None else [pid]
    return parts
