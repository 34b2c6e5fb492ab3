"""The stage of a test: a migrated database, the product's own SQL to bring executions into any state, and one audit.

Owns no rule: claim and finish are written out here as a worker would write them, admission and acceptance are called.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from interlock.acceptance.catalog import Catalog
from interlock.acceptance.store import accept
from interlock.contract.definitions import Action
from tests.databases import empty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from interlock.acceptance.store import Acceptance

ACTOR = "/executor/test"
CHUNK = 500

_CLAIM = """
WITH moved AS (
    UPDATE execution e SET status = 'running', worker_id = $1, moves = e.moves + 1, started_at = now()
    WHERE e.id = $2 AND e.status = 'scheduled' AND e.attempt = $3 RETURNING e.*
), flying AS (
    UPDATE in_flight f SET worker_id = $1 FROM moved m WHERE f.execution_id = m.id
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, 'scheduled', status, attempt, action, parent_id, pool, NULL, NULL,
                                  NULL, NULL, $1)::move), 'worker', '/worker/' || $1) AS messages,
       count(*) AS moved FROM moved
"""
_FINISH = """
WITH moved AS (
    UPDATE execution e
    SET status = $3::text::status, moves = e.moves + 1, failures = e.failures + ($3::text = 'requested')::int,
        worker_id = CASE WHEN $3::text = 'requested' THEN NULL ELSE e.worker_id END,
        not_before = CASE WHEN $3::text = 'requested' THEN now() + $5 * interval '1 second' END,
        finished_at = CASE WHEN $3::text <> 'requested' THEN now() END
    WHERE e.id = $2 AND e.status = $4::text::status AND e.worker_id = $1 RETURNING e.*
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, $4, status, attempt, action, parent_id, pool, NULL, NULL, NULL,
                                  not_before, $1)::move), 'worker', '/worker/' || $1) AS messages,
       count(*) AS moved FROM moved
"""
# Each arm names what is broken; a sound database returns no row. A pool is a soft window: workers finish and come
# without touching its key, so a lane may be parked on it while it has room, as long as the loop sees it (`gated`).
_AUDIT = """
WITH waits AS (
    SELECT l.id AS lane_id, l.keys, l.priority, w.seq, w.execution_id FROM waiting w JOIN lane l ON l.id = w.lane_id
), room AS (
    -- A claim keeps one slot free. The reconciler looks at claimed keys, so a claimed rate may have tokens for others.
    SELECT q.*, q.paused OR q.wake_at IS NOT NULL OR (q.rate_every IS NOT NULL AND q.claim_lane IS NOT NULL)
                OR CASE WHEN q.scope = 'pool' THEN pool_window(q.name) = 0 WHEN q.lim IS NULL THEN false
                        ELSE q.active >= q.lim - (q.claim_lane IS NOT NULL)::int END AS is_full
    FROM queue q
)
SELECT 'active is not the number of slots' AS broken, q.name AS what FROM queue q
WHERE q.active <> (SELECT count(*) FROM slot s WHERE s.key_id = q.id)
UNION ALL SELECT 'waiting is not the number of waiters', q.name FROM queue q
WHERE q.waiting <> (SELECT count(*) FROM waits w WHERE q.id = ANY(w.keys))
UNION ALL SELECT 'the head is not the first waiter', l.id::text FROM lane l
WHERE l.head_seq IS DISTINCT FROM (SELECT min(w.seq) FROM waiting w WHERE w.lane_id = l.id)
UNION ALL SELECT 'parked on a key of another lane', l.id::text FROM lane l WHERE l.parked_on <> ALL(l.keys)
UNION ALL SELECT 'parked on a key that nobody calls', q.name FROM lane l JOIN room q ON q.id = l.parked_on
WHERE NOT (q.gated AND (q.is_full OR q.owed OR q.scope = 'pool'))
UNION ALL SELECT 'the place of a lane on a key is not its head', l.id::text
FROM lane l JOIN queue q ON q.id = l.parked_on WHERE q.scope <> 'pool' AND l.place <> l.head_seq
UNION ALL SELECT 'a wake-up without a rate or without waiters', q.name FROM queue q
WHERE q.wake_at IS NOT NULL AND NOT q.owed
  AND (q.rate_every IS NULL OR NOT EXISTS (SELECT 1 FROM lane l WHERE l.parked_on = q.id AND l.head_seq IS NOT NULL))
UNION ALL SELECT 'a bounded key without a gate', q.name FROM queue q
WHERE (q.lim IS NOT NULL OR q.rate_every IS NOT NULL OR q.paused) AND NOT q.gated
UNION ALL SELECT 'a claim of a lane that does not have the key', q.name FROM queue q
WHERE q.claim_lane IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.id = q.claim_lane AND q.id = ANY(l.keys))
UNION ALL SELECT 'half a claim', q.name FROM queue q
WHERE num_nulls(q.claim_lane, q.claim_prio, q.claim_seq) NOT IN (0, 3)
UNION ALL SELECT 'a claim of a head that has gone, and no look is owed', q.name FROM queue q
WHERE q.claim_lane IS NOT NULL AND NOT q.owed
  AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.id = q.claim_lane AND l.head_seq = q.claim_seq)
UNION ALL SELECT 'waiter and row disagree', e.id::text
FROM execution e FULL JOIN waiting w ON w.execution_id = e.id
WHERE (e.seq IS NOT NULL OR w.seq IS NOT NULL)
  AND (e.status = 'requested' AND e.seq = w.seq AND e.lane_id = w.lane_id) IS NOT TRUE
UNION ALL SELECT 'requested without a reason to move', e.id::text FROM execution e
WHERE e.status = 'requested' AND e.seq IS NULL AND e.paused_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM timer t WHERE t.execution_id = e.id AND t.kind = 'enter')
UNION ALL SELECT 'in flight and row disagree', e.id::text
FROM execution e FULL JOIN in_flight f ON f.execution_id = e.id
WHERE (f.execution_id IS NOT NULL OR (e.kind = 'action' AND e.status IN ('scheduled', 'running', 'cancelling')))
  AND (e.kind = 'action' AND e.status IN ('scheduled', 'running', 'cancelling') AND f.attempt = e.attempt
       AND f.pool = e.pool AND f.parent_id IS NOT DISTINCT FROM e.parent_id
       AND f.worker_id IS NOT DISTINCT FROM e.worker_id) IS NOT TRUE
UNION ALL SELECT 'a slot on a key that is not of its lane', s.execution_id::text
FROM slot s JOIN execution e ON e.id = s.execution_id JOIN lane l ON l.id = e.lane_id WHERE s.key_id <> ALL(l.keys)
UNION ALL SELECT 'a limited key without the slot of what is in flight', e.id::text
FROM execution e JOIN lane l ON l.id = e.lane_id
JOIN queue q ON q.id = ANY(l.keys) AND (q.lim IS NOT NULL OR q.rate_every IS NOT NULL) AND q.scope <> 'pool'
WHERE e.status IN ('scheduled', 'running', 'cancelling')
  AND NOT EXISTS (SELECT 1 FROM slot s WHERE s.execution_id = e.id AND s.key_id = q.id)
UNION ALL SELECT 'the last move is not the status', e.id::text FROM execution e
WHERE NOT EXISTS (SELECT 1 FROM execution_transition t
                  WHERE t.execution_id = e.id AND t.move = e.moves AND t.target = e.status AND t.attempt = e.attempt)
UNION ALL SELECT 'a move does not begin where the one before ended', t.execution_id::text
FROM (SELECT *, lag(target) OVER (PARTITION BY execution_id ORDER BY move) AS stood FROM execution_transition) t
WHERE t.source IS DISTINCT FROM t.stood OR t.source = t.target
UNION ALL SELECT 'admitted out of order', t.execution_id::text
FROM (SELECT *, max(seq) OVER (PARTITION BY lane_id ORDER BY position
                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM execution_transition WHERE target IN ('scheduled', 'running') AND lane_id IS NOT NULL) t
WHERE t.seq < t.before
UNION ALL SELECT 'ends and completions differ', ended::text || ' ' || told::text
FROM (SELECT (SELECT count(*) FROM execution_transition WHERE is_terminal(target)) AS ended,
             (SELECT coalesce(sum(events), 0) FROM outbox WHERE exchange = 'completions') AS told) n WHERE ended <> told
UNION ALL SELECT 'a timer of what has ended', t.execution_id::text
FROM timer t JOIN execution e ON e.id = t.execution_id WHERE is_terminal(e.status)
"""


def fresh_id() -> UUID:
    """Return an execution id as a client would choose it."""
    return uuid7()


def request(action: str = "job", **fields: object) -> dict[str, Any]:
    """Return the data of one `execution.requested`, with a fresh id unless one is given."""
    return {"id": str(fields.pop("id", None) or fresh_id()), "action": action, **fields}


class World:
    """One connection to one migrated database; each call is a transaction of its own unless `tx` is already in one."""

    def __init__(self, tx: asyncpg.Connection, url: str) -> None:
        self.tx = tx
        self.url = url
        self.catalog = Catalog()
        self.hand = UUID(int=0)
        """The worker that a test's stage begins with."""

    @asynccontextmanager
    async def another(self) -> AsyncIterator[World]:
        """Give a second connection to the same database, for races."""
        async with opened(self.url) as other:
            yield other

    async def empty(self) -> None:
        """Delete what the test before has left."""
        await empty(self.tx)

    async def register(self, action: str = "job", **definition: object) -> None:
        """Register the next version of an action, as `actions apply` does."""
        known = Action.model_validate({"action": action, "command": ["true"], **definition})
        await self.tx.execute(
            "INSERT INTO action (name, version, definition, checksum)"
            " SELECT $1, count(*) + 1, $2, $3 FROM action WHERE name = $1",
            action,
            json.dumps(known.to_stored()),
            known.checksum(),
        )

    async def worker(self, pool: str = "default", capacity: int = 100, lease: float = 3600) -> UUID:
        """Register a live worker incarnation."""
        identity = fresh_id()
        await self.tx.execute(
            "INSERT INTO worker (id, pool, capacity, host, pid, lease_expires_at)"
            " VALUES ($1, $2, $3, 'test', 1, now() + $4 * interval '1 second')",
            identity,
            pool,
            capacity,
            lease,
        )
        return identity

    async def accept(self, *requests: Mapping[str, Any], now: datetime | None = None) -> Acceptance:
        """Accept one flush of requests."""
        async with self.tx.transaction():
            return await accept(
                self.tx, [dict(r) for r in requests], catalog=self.catalog, actor=ACTOR, now=now or datetime.now(UTC)
            )

    async def submit(self, count: int = 1, action: str = "job", **fields: object) -> list[UUID]:
        """Accept `count` fresh requests in one flush and return their ids."""
        wanted = [request(action, **fields) for _ in range(count)]
        answers = (await self.accept(*wanted)).answers
        assert all(answer.accepted and answer.refused is None for answer in answers), answers
        return [UUID(data["id"]) for data in wanted]

    async def key(self, name: str = "action:job", scope: str = "leaf") -> asyncpg.Record:
        """Return the row of one key."""
        found = await self.tx.fetchrow("SELECT * FROM queue WHERE scope = $1 AND name = $2", scope, name)
        assert found is not None, name
        return found

    async def admit(
        self,
        *,
        ended: Sequence[UUID] = (),
        entering: Sequence[UUID] = (),
        decide: Mapping[UUID, str] | None = None,
        attempt: int | None = None,
        reason: str = "because",
        keys: Sequence[int] = (),
        chunk: int = CHUNK,
    ) -> asyncpg.Record:
        """Call `admit` once and return its row."""
        decisions = decide or {}
        row = await self.tx.fetchrow(
            "SELECT * FROM admit($1, $2, $3, $4, $5::text[]::status[], $6, $7, $8, $9)",
            list(ended),
            list(entering),
            list(decisions),
            [attempt] * len(decisions),
            list(decisions.values()),
            reason,
            list(keys),
            chunk,
            ACTOR,
        )
        assert row is not None
        return row

    async def admit_on(self, keys: Sequence[int], chunk: int = CHUNK) -> int:
        """Call `admit` until no key is owed; return how many calls it took."""
        calls = 0
        while keys:
            calls += 1
            assert calls < 50, "no progress"
            keys = (await self.admit(keys=keys, chunk=chunk))["more"] or []
        return calls

    async def set_limit(self, name: str, lim: int | None, *, paused: bool = False, scope: str = "leaf") -> int:
        """Change a key without admitting, and return its id."""
        return await self.set_queue(name, scope, lim=lim, paused=paused)

    async def set_queue(self, name: str, scope: str = "leaf", /, **changes: object) -> int:
        """Change any column of a key without admitting, and return its id."""
        found: int = await self.tx.fetchval("SELECT set_queue($1, $2, $3)", scope, name, json.dumps(changes))
        return found

    async def limit(self, name: str, lim: int | None, *, paused: bool = False, scope: str = "leaf") -> int:
        """Change a key and admit what it owes."""
        identity = await self.set_limit(name, lim, paused=paused, scope=scope)
        await self.admit_on([identity])
        return identity

    async def claim(self, worker: UUID, *ids: UUID) -> int:
        """Move scheduled executions to running as a worker; return how many moved."""
        moved = 0
        for identity in ids:
            attempt = await self.tx.fetchval("SELECT attempt FROM execution WHERE id = $1", identity)
            row = await self.tx.fetchrow(_CLAIM, worker, identity, attempt)
            moved += row["moved"] if row else 0
        return moved

    async def finish(
        self, worker: UUID, identity: UUID, target: str = "completed", source: str = "running", delay: float = 0
    ) -> int:
        """End an attempt as a worker; return how many moved (0: somebody else did)."""
        row = await self.tx.fetchrow(_FINISH, worker, identity, target, source, delay)
        return int(row["moved"]) if row else 0

    async def run(self, worker: UUID, *ids: UUID) -> None:
        """Claim and complete, without telling the executor."""
        assert await self.claim(worker, *ids) == len(ids)
        for identity in ids:
            assert await self.finish(worker, identity) == 1

    async def end(self, *ids: UUID, chunk: int = CHUNK) -> asyncpg.Record:
        """Claim and complete, and tell the executor."""
        await self.run(self.hand, *ids)
        return await self.admit(ended=ids, chunk=chunk)

    async def pass_time(self, name: str, seconds: float, scope: str = "leaf") -> None:
        """Let time go by for the rate of a key, and for nothing else."""
        await self.tx.execute(
            "UPDATE queue SET tat = tat - $3::float8, wake_at = wake_at - $3 * interval '1 second'"
            " WHERE scope = $1 AND name = $2",
            scope,
            name,
            seconds,
        )

    async def order(self) -> list[UUID]:
        """Return what was admitted out of a lane, in the order of admission."""
        rows = await self.tx.fetch(
            "SELECT execution_id FROM execution_transition WHERE source = 'requested' AND seq IS NOT NULL"
            " AND target IN ('scheduled', 'running') ORDER BY position"
        )
        return [row["execution_id"] for row in rows]

    async def statuses(self, ids: Sequence[UUID]) -> list[str]:
        """Return the statuses of these executions, in this order."""
        rows = await self.tx.fetch("SELECT id, status::text AS status FROM execution WHERE id = ANY($1)", list(ids))
        found = {row["id"]: row["status"] for row in rows}
        return [found[identity] for identity in ids]

    async def slots(self, name: str = "action:job") -> set[UUID]:
        """Return the executions that hold a slot of a key."""
        rows = await self.tx.fetch(
            "SELECT execution_id FROM slot s JOIN queue q ON q.id = s.key_id WHERE q.name = $1", name
        )
        return {row["execution_id"] for row in rows}

    async def parked_on(self, identity: UUID) -> str | None:
        """Return the name of the key on which the lane of an execution is parked."""
        name: str | None = await self.tx.fetchval(
            "SELECT q.name FROM execution e JOIN lane l ON l.id = e.lane_id JOIN queue q ON q.id = l.parked_on"
            " WHERE e.id = $1",
            identity,
        )
        return name

    async def audit(self) -> None:
        """Fail with everything that is broken in this database."""
        if await self.tx.fetchval("SELECT count(*) > 1000 FROM execution_transition"):
            # What was empty a moment ago is still planned for as if it were: minutes, for a few thousand rows.
            await self.tx.execute("ANALYZE")
        broken = [(row["broken"], row["what"]) for row in await self.tx.fetch(_AUDIT)]
        assert broken == []

    async def is_blocking(self, other: World) -> bool:
        """Whether `other` waits for a lock that this connection holds."""
        blockers: list[int] = await self.tx.fetchval("SELECT pg_blocking_pids($1)", other.tx.get_server_pid())
        return self.tx.get_server_pid() in blockers


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[World]:
    """Connect to a migrated database."""
    connection = await asyncpg.connect(url)
    try:
        yield World(connection, url)
    finally:
        await connection.close()
