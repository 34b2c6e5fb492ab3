"""The floor of the database: the rows of a no-op and nothing else, written by bare statements that decide nothing.

The tables, indexes and sizes of flushes are the product's, and each row is written as often as for an execution that
waits for its pool. No guard, no lock, no limit, no comparison; no event is put together, but messages of their length
go through the outbox. What the product's database needs beyond this is what deciding costs, and being more than one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import asyncpg
from uuid_utils import uuid7

from bench.meter import Meter, servers
from bench.readings import Reading, named
from bench.stage import NOOP
from interlock.adapters.postgres import HOT
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.stage import Stage

FLUSH: Final = 150
"""As large as the product's at the peak of P1."""
_NO_GUARD: Final = "DROP TRIGGER execution_move_guard ON execution"
_ACCEPT: Final = """
INSERT INTO execution (id, root_id, status, action, action_version, pool, lane_id, seq, request_hash)
SELECT id, id, 'requested', 'bench.noop', 1, 'default', 1, $2 + n, sha256(id::text::bytea)
FROM unnest($1::uuid[]) WITH ORDINALITY u(id, n)
"""
_WAIT: Final = "INSERT INTO waiting SELECT 1, $2 + n, id FROM unnest($1::uuid[]) WITH ORDINALITY u(id, n)"
_MOVE: Final = """
INSERT INTO execution_transition (execution_id, move, target, attempt, epoch, actor)
SELECT id, $2, $3::status, 1, 1, $4 FROM unnest($1::uuid[]) u(id)
"""
_CAME_UP: Final = "DELETE FROM waiting WHERE lane_id = 1 AND seq > $1 AND seq <= $1 + $2"
_FLY: Final = (
    "INSERT INTO in_flight (execution_id, pool, attempt) SELECT id, 'default', 1 FROM unnest($1::uuid[]) u(id)"
)
_TAKE: Final = (
    "UPDATE in_flight f SET worker_id = $2 FROM unnest($1::uuid[]) u(id) WHERE f.execution_id BETWEEN u.id AND u.id"
)
_LAND: Final = "DELETE FROM in_flight f USING unnest($1::uuid[]) u(id) WHERE f.execution_id BETWEEN u.id AND u.id"
_KEEP: Final = """
INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, started_at)
SELECT id, 1, 'completed', $2, now() FROM unnest($1::uuid[]) u(id)
"""
_SCHEDULE: Final = """
UPDATE execution e SET status = 'scheduled', attempt = 1, moves = 2, seq = NULL, scheduled_at = now()
FROM unnest($1::uuid[]) u(id) WHERE e.id BETWEEN u.id AND u.id
"""
_START: Final = """
UPDATE execution e SET status = 'running', worker_id = $2, moves = 3, started_at = now()
FROM unnest($1::uuid[]) u(id) WHERE e.id BETWEEN u.id AND u.id
"""
_END: Final = """
UPDATE execution e SET status = 'completed', moves = 4, finished_at = now(), result = 'null'
FROM unnest($1::uuid[]) u(id) WHERE e.id BETWEEN u.id AND u.id
"""
_TELL: Final = (
    "INSERT INTO outbox (role, exchange, routing_key, events, body) VALUES ('worker', 'status', 'any', $1, $2)"
)
_TOLD: Final = "DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox)"


async def rows(stage: Stage, count: int) -> Reading:
    """Write the rows of `count` no-ops by one connection."""
    ids = sorted(UUID(int=uuid7().int) for _ in range(count))
    async with stage.database() as endpoints:
        connection = await asyncpg.connect(endpoints.database_url, server_settings=HOT)
        try:
            await connection.execute(_NO_GUARD)
            meter = Meter(connection, await servers(connection, endpoints))
            await meter.begin()
            for place in range(0, count, FLUSH):
                await _write(connection, ids[place : place + FLUSH], place)
            costs = await meter.costs(meter.cpu(), count)
        finally:
            await connection.close()
    return named("rows", costs)


async def _write(connection: asyncpg.Connection, ids: Sequence[UUID], place: int) -> None:
    worker = uuid4()
    actor = f"/worker/{worker}"
    body = events.encode(events.requested(actor, [{"id": str(one), "action": NOOP} for one in ids]))[0].decode()
    message = len(ids), body
    async with connection.transaction():
        await connection.execute(_ACCEPT, ids, place)
        await connection.execute(_WAIT, ids, place)
        await connection.execute(_MOVE, ids, 1, "requested", actor)
    async with connection.transaction():
        await connection.execute(_SCHEDULE, ids)
        await connection.execute(_CAME_UP, place, len(ids))
        await connection.execute(_FLY, ids)
        await connection.execute(_MOVE, ids, 2, "scheduled", actor)
        await connection.execute(_TELL, *message)
    async with connection.transaction():
        await connection.execute(_START, ids, worker)
        await connection.execute(_TAKE, ids, worker)
        await connection.execute(_MOVE, ids, 3, "running", actor)
        await connection.execute(_TELL, *message)
    async with connection.transaction():
        await connection.execute(_END, ids)
        await connection.execute(_LAND, ids)
        await connection.execute(_KEEP, ids, worker)
        await connection.execute(_MOVE, ids, 4, "completed", actor)
        await connection.execute(_TELL, *message)
        await connection.execute(_TELL, *message)
    await connection.execute(_TOLD)
