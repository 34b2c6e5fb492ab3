"""What a deployment's history proves when a run is over: how many held slots at once, in which order, that each ended.

Reads `execution_transition`. A move out of a slot is written before its slot can come back, so a count over positions
is never above what was held in truth, and one above a limit is a slot too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from interlock.contract.events import MAX_EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    import asyncpg

_MOST_AT_ONCE: Final = """
SELECT name, max(held) AS most FROM (
    SELECT q.name, sum(CASE WHEN t.target = 'scheduled' THEN 1
                            WHEN t.source IN ('scheduled', 'running', 'cancelling')
                                 AND (t.target = 'requested' OR is_terminal(t.target)) THEN -1 ELSE 0 END)
                   OVER (PARTITION BY q.id ORDER BY t.position ROWS UNBOUNDED PRECEDING) AS held
    FROM execution_transition t JOIN execution e ON e.id = t.execution_id JOIN lane l ON l.id = e.lane_id
    JOIN queue q ON q.id = ANY(l.keys) AND q.scope = 'leaf' AND q.lim IS NOT NULL) s
GROUP BY name
"""
_INVERSIONS: Final = """
SELECT count(*) FROM (
    SELECT seq, max(seq) OVER (PARTITION BY lane_id ORDER BY position ROWS UNBOUNDED PRECEDING) AS newest
    FROM execution_transition WHERE target = 'scheduled' AND lane_id IS NOT NULL) t
WHERE seq < newest
"""
_OVERTAKEN_IN_ITS_MESSAGE: Final = """
SELECT count(*) FROM (
    SELECT t.position,
           max(t.position) OVER (PARTITION BY e.lane_id, (u.n - 1) / $2 ORDER BY u.n ROWS UNBOUNDED PRECEDING) AS newest
    FROM unnest($1::uuid[]) WITH ORDINALITY u(id, n) JOIN execution e ON e.id = u.id
    JOIN execution_transition t ON t.execution_id = e.id AND t.target = 'scheduled' AND t.attempt = 1) s
WHERE position < newest
"""


async def most_at_once(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how many held a slot of each limited key at once, at most."""
    return {row["name"]: row["most"] for row in await connection.fetch(_MOST_AT_ONCE)}


async def inversions(connection: asyncpg.Connection) -> int:
    """Return how many left their lane after one that had entered it later."""
    found: int = await connection.fetchval(_INVERSIONS)
    return found


async def overtaken(connection: asyncpg.Connection, ids: Sequence[UUID]) -> int:
    """Return how many went after one that stood behind them in the same message, `ids` being in the order of asking."""
    found: int = await connection.fetchval(_OVERTAKEN_IN_ITS_MESSAGE, ids, MAX_EVENTS)
    return found


async def each_completed_once(connection: asyncpg.Connection, ids: Collection[UUID]) -> None:
    """Assert that these and no others completed, with one attempt each, and not one write that changed nothing."""
    fetchval = connection.fetchval
    completed = "SELECT count(*) FROM execution WHERE status = 'completed' AND attempt = 1 AND id = ANY($1)"
    assert await fetchval(completed, list(ids)) == len(ids)
    assert await fetchval("SELECT count(*) FROM execution") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_attempt") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_transition WHERE is_terminal(target)") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_transition WHERE source = target") == 0
