"""What a backlog costs those who are admitted from it: nothing that grows with it.

Plans are prepared on empty tables and never again, as in a daemon that was there before its backlog; so nothing may
analyze a table meanwhile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID, uuid4

import pytest
from uuid_utils.compat import uuid7

from executor import store as executor_store
from interlock.acceptance.catalog import Catalog
from interlock.acceptance.store import accept
from tests.integration.test_plans import ACTOR, LARGE, explaining, finish
from tests.long import LONG
from worker import store as worker_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.databases import Databases

SMALL_BACKLOG: Final = 1_000
LARGE_BACKLOG: Final = 1_000_000 if LONG else 200_000
"""Whatever reads the whole of either is caught; only filling the larger takes half a minute."""
FLUSH: Final = 100
ROUNDS: Final = 60
MOST_RATIO: Final = 1.5
IN_ORDER: Final = re.compile(r"Limit .*\n *->  Index (Only )?Scan using waiting_pkey on waiting")
LEFT_ALONE: Final = """
SELECT format('ALTER TABLE %s SET (autovacuum_enabled = off)', c.oid::regclass) AS statement
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
"""
# As acceptance leaves them behind: at the end of the one lane, counted on each of its keys, with their move in history.
# The lane must have its head already, and no slot be free.
ENTER: Final = """
WITH lane AS MATERIALIZED (
    SELECT id, keys FROM lane
), entered AS (
    INSERT INTO execution (id, status, action, action_version, root_id, pool, lane_id, seq, request_hash)
    SELECT u.id, 'requested', 'job', 1, u.id, 'default', lane.id, u.seq, '\\x00'
    FROM (SELECT uuidv7() AS id, nextval('waiting_seq') AS seq FROM generate_series(1, $1::int)) u, lane
    RETURNING id, lane_id, seq
), placed AS (
    INSERT INTO waiting (lane_id, seq, execution_id) SELECT lane_id, seq, id FROM entered
), told AS (
    INSERT INTO execution_transition (execution_id, move, target, attempt, epoch, actor)
    SELECT id, 1, 'requested', 0, 1, '/executor/test' FROM entered
)
UPDATE queue SET waiting = waiting + $1 FROM lane WHERE queue.id = ANY(lane.keys)
"""


@dataclass(kw_only=True)
class Stage:
    """One key with a limit of FLUSH, all of them held, and those who wait for it; every plan goes to `plans`."""

    connection: asyncpg.Connection[asyncpg.Record]
    worker: UUID
    plans: list[str]
    seconds: list[float] = field(default_factory=list)

    @classmethod
    async def of(cls, url: str) -> Self:
        """Prepare an empty database, and go the whole way once in it."""
        plans: list[str] = []
        connection = await explaining(url, plans)
        stage = cls(connection=connection, worker=uuid4(), plans=plans)
        # The disk takes the same time for both, and would only hide a difference.
        await connection.execute("SET synchronous_commit = off; SET auto_explain.log_min_duration = -1")
        await connection.execute(";".join(row["statement"] for row in await connection.fetch(LEFT_ALONE)))
        await worker_store.register(
            connection,
            stage.worker,
            pool="default",
            capacity=10 * FLUSH,
            host="here",
            pid=1,
            containment="none",
            lease=600.0,
        )
        await connection.execute(
            "INSERT INTO action (name, version, definition, checksum) VALUES ('job', 1, $1, 'x')",
            '{"action": "job", "command": ["true"]}',
        )
        await connection.fetchval("SELECT set_queue('leaf', 'action:job', jsonb_build_object('lim', $1::int))", FLUSH)
        requests = [{"id": str(uuid7()), "action": "job"} for _ in range(3 * FLUSH)]
        await accept(connection, requests, catalog=Catalog(), actor=ACTOR, now=datetime.now(UTC))
        await stage.turn_over()
        return stage

    async def enter(self, count: int) -> None:
        """Let so many more wait."""
        await self.connection.execute(ENTER, count)

    async def turn_over(self) -> float:
        """End all who hold a slot and admit as many; return the seconds of the admission."""
        claim = await worker_store.claim_from_table(
            self.connection, self.worker, pool="default", most=FLUSH, older=-1.0, actor="/worker/test"
        )
        ends = [finish(row) for row in claim.claimed]
        moved, _ = await worker_store.finish(self.connection, self.worker, ends, "/worker/test")
        began = perf_counter()
        admission = await executor_store.admit(self.connection, ACTOR, ended=sorted(moved))
        elapsed = perf_counter() - began
        assert (admission.released, admission.admitted, admission.more) == (FLUSH, FLUSH, [])
        return elapsed

    async def explained(self) -> list[str]:
        """Do it once more; return the plans of its admission and of the rest."""
        await self.connection.execute("SET auto_explain.log_min_duration = 0")
        self.plans.clear()
        await self.turn_over()
        return self.plans

    async def waiting(self) -> int:
        """Return how many wait, in truth and by the key's count."""
        row = await self.connection.fetchrow(
            "SELECT (SELECT count(*) FROM waiting) AS rows, waiting FROM queue WHERE name = 'action:job'"
        )
        assert row is not None
        assert row["rows"] == row["waiting"]
        return int(row["rows"])


@pytest.fixture
async def stages(databases: Databases) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two databases: of a small backlog and of a large one."""
    async with databases.one() as one, databases.one() as other:
        small, large = await Stage.of(one), await Stage.of(other)
        yield small, large
        await small.connection.close()
        await large.connection.close()


@pytest.mark.timeout(300)
async def test_with_a_long_backlog_an_admission_costs_at_most_half_as_much_again_as_with_a_thousand(
    stages: tuple[Stage, Stage],
) -> None:
    small, large = stages
    # What the preparation left waits already.
    await small.enter(SMALL_BACKLOG - await small.waiting())
    await large.enter(LARGE_BACKLOG - await large.waiting())
    for _ in range(ROUNDS):
        for stage in stages:
            stage.seconds.append(await stage.turn_over())
            await stage.enter(FLUSH)
    assert (await small.waiting(), await large.waiting()) == (SMALL_BACKLOG, LARGE_BACKLOG)
    assert median(large.seconds) <= MOST_RATIO * median(small.seconds), (large.seconds, small.seconds)
    plans = await large.explained()
    assert [plan for plan in plans if LARGE.search(plan)] == []
    # By the place in the lane, and the heads in their order: a sort would read the whole lane for its first ones.
    reads = [plan for plan in plans if re.search(r" on waiting\b", plan)]
    assert [plan for plan in reads if "waiting_pkey" not in plan] == []
    heads = [plan for plan in reads if "ORDER BY w.seq" in plan or "ORDER BY seq" in plan]
    assert [bool(IN_ORDER.search(plan)) for plan in heads] == [True, True], heads
