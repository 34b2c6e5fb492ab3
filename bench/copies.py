"""Many executions from one: its rows are copied, set-based, so that a large database is as consistent as a small one.

Knows no columns but the keys, and so copies whatever a newer schema keeps. Admission and the clients see no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

CHUNK: Final = 250_000
_COLUMNS: Final = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '' AND attgenerated = ''
ORDER BY attnum
"""
# UUIDv7, as clients make them: in the order of time, so that the indexes grow as they do in life.
_FRESH: Final = """
INSERT INTO fresh
SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - ($1::bigint - n) / 50), 12, '0')
        || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid, $2::bigint + n
FROM generate_series($3::bigint, $4::bigint) n CROSS JOIN LATERAL (SELECT md5(random()::text || n) AS h) r
"""


async def copy_finished(connection: asyncpg.Connection, template: UUID, count: int) -> None:
    """Add `count` executions that ended as `template` did, with their whole history."""
    for first in range(1, count + 1, CHUNK):
        async with connection.transaction():
            await _fresh(connection, count, 0, first, min(count, first + CHUNK - 1))
            await _copy(connection, "execution", "id", template, {"id": "f.id", "root_id": "f.id"})
            await _copy_history(connection, template)
    await connection.execute("VACUUM (ANALYZE)")


async def copy_waiting(connection: asyncpg.Connection, template: UUID, count: int) -> None:
    """Add `count` executions that wait in the lane of `template`, behind it."""
    keys = await connection.fetchval(
        "SELECT keys FROM lane JOIN execution e ON e.lane_id = lane.id WHERE e.id = $1", template
    )
    behind = await connection.fetchval("SELECT last_value FROM waiting_seq")
    for first in range(1, count + 1, CHUNK):
        last = min(count, first + CHUNK - 1)
        async with connection.transaction():
            await _fresh(connection, count, behind, first, last)
            await _copy(connection, "execution", "id", template, {"id": "f.id", "root_id": "f.id", "seq": "f.seq"})
            await _copy(connection, "waiting", "execution_id", template, {"execution_id": "f.id", "seq": "f.seq"})
            await _copy_history(connection, template)
            await connection.execute("SELECT setval('waiting_seq', $1)", behind + last)
            await connection.execute(
                "UPDATE queue SET waiting = waiting + $2 WHERE id = ANY($1)", keys, last - first + 1
            )
    await connection.execute("VACUUM (ANALYZE)")


async def _fresh(connection: asyncpg.Connection, total: int, behind: int, first: int, last: int) -> None:
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS fresh (id uuid, seq bigint)")
    await connection.execute("TRUNCATE fresh")
    await connection.execute(_FRESH, total, behind, first, last)


async def _copy_history(connection: asyncpg.Connection, template: UUID) -> None:
    for table in ("execution_transition", "execution_attempt", "execution_log", "timer"):
        await _copy(connection, table, "execution_id", template, {"execution_id": "f.id"}, leave_out="position")


async def _copy(
    connection: asyncpg.Connection, table: str, key: str, template: UUID, changed: dict[str, str], leave_out: str = ""
) -> None:
    found = [row["attname"] for row in await connection.fetch(_COLUMNS, table)]
    columns = [name for name in found if name != leave_out]
    values = ", ".join(changed.get(name, f"t.{name}") for name in columns)
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 - names come from the catalogue and from above
        f"SELECT {values} FROM {table} t CROSS JOIN fresh f WHERE t.{key} = $1",
        template,
    )
