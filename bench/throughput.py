"""Accepted to finished: requests by message, one executor, one worker, everything on, nothing switched off."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import aio_pika
import asyncpg
from uuid_utils import uuid7

from interlock.adapters.migrations import migrate
from interlock.contract import events
from interlock.contract.definitions import Action
from interlock.local.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interlock.local.stack import Endpoints

CONCURRENCY = 500
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One round: executions per second, and what it took. Memory is each process's peak in MB."""

    per_second: float
    executor_mb: float
    worker_mb: float
    transactions: float
    messages: float
    wal_bytes: float


def environment() -> dict[str, str]:
    """What every daemon of a benchmark finds in its environment."""
    return {
        "INTERLOCK_CONCURRENCY": str(CONCURRENCY),
        "INTERLOCK_FUNCTIONS": "bench.actions",
        "INTERLOCK_LOG_LEVEL": "warning",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


async def prepare(database_url: str) -> None:
    """Bring the schema up."""
    connection = await asyncpg.connect(database_url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def register(connection: asyncpg.Connection, definition: Mapping[str, object]) -> None:
    """Register version 1 of an action, if nobody has."""
    action = Action.model_validate(definition)
    await connection.execute(
        "INSERT INTO action (name, version, definition, checksum) VALUES ($1, 1, $2, $3) ON CONFLICT DO NOTHING",
        action.action,
        action.canonical(),
        action.checksum(),
    )


async def throughput(endpoints: Endpoints, logs: Path, count: int) -> Figures:
    """Publish `count` requests in batches of 500 and wait until every one is finished and its slots are back."""
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        await register(connection, {"action": "bench.noop", "function": "bench.actions:noop"})
        async with Daemons(endpoints, logs=logs, env=environment()) as daemons:
            before = await _counters(connection)
            bodies = requests("bench.noop", count)
            started = time.perf_counter()
            await publish(endpoints.client, bodies)
            await until_finished(connection, count)
            elapsed = time.perf_counter() - started
            after = await _counters(connection)
            executor, worker = daemons.executors[0], daemons.workers[0]
            return Figures(
                per_second=count / elapsed,
                executor_mb=_peak_mb(executor.pid),
                worker_mb=max(_peak_mb(pid) for pid in _children(worker.pid)),
                transactions=(after[0] - before[0]) / count,
                messages=(after[1] - before[1]) / count,
                wal_bytes=(after[2] - before[2]) / count,
            )
    finally:
        await wipe(connection)
        await connection.close()


async def wipe(connection: asyncpg.Connection) -> None:
    """Forget what ran, so that each round begins as the first."""
    await connection.execute("TRUNCATE execution, execution_transition, execution_attempt, execution_log")


def requests(action: str, count: int) -> list[bytes]:
    """Return `count` requests for an action as messages of up to 500."""
    bodies = []
    for start in range(0, count, events.MAX_EVENTS):
        size = min(events.MAX_EVENTS, count - start)
        batch = events.requested("/bench", [{"id": str(UUID(int=uuid7().int)), "action": action} for _ in range(size)])
        bodies.append(events.encode(batch)[0])
    return bodies


async def publish(amqp_url: str, bodies: list[bytes]) -> None:
    """Send these messages as a client, one after the other."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("interlock.requests", ensure=False)
        for body in bodies:
            message = aio_pika.Message(body, content_type=events.BATCH, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, "execution.requested")


async def until_finished(connection: asyncpg.Connection, count: int) -> None:
    """Wait until so many are there and nothing waits, runs or holds a slot."""
    statement = """
        SELECT CASE
            WHEN EXISTS (SELECT 1 FROM in_flight) OR EXISTS (SELECT 1 FROM waiting) OR EXISTS (SELECT 1 FROM slot)
            THEN false
            ELSE (SELECT count(*) FROM execution) = $1 END"""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await connection.fetchval(statement, count):  # noqa: ASYNC110 - it watches another process
            await asyncio.sleep(0.05)


async def _counters(connection: asyncpg.Connection) -> tuple[int, int, int]:
    """Transactions committed, messages written, bytes of WAL: so far, of this database."""
    rows = await connection.fetch(
        """SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
                  (SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'outbox') AS messages,
                  pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal"""
    )
    return rows[0]["commits"], rows[0]["messages"], rows[0]["wal"]


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(int(child) for child in listed)]
