"""The plans of the hot statements: by key, on empty tables and on large ones. One that flips costs a factor of 60."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from executor import store as executor_store
from interlock.acceptance.catalog import Catalog
from interlock.acceptance.store import accept, bury
from interlock.adapters.postgres import COLD, HOT
from interlock.client import store as client_store
from interlock.contract.status import Status
from worker import store as worker_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    Tx = asyncpg.Connection[asyncpg.Record]

ACTOR = "/executor/test"
ROWS = 200_000
# queue, lane, worker and action hold a handful of rows, whatever is done to the product.
LARGE = re.compile(r"Seq Scan on (execution\w*|waiting|slot|in_flight|timer|outbox)")
# Where a scan of the table is forbidden, the planner may walk an index of it from end to end, which is no better.
READ = re.compile(
    r"(?:Seq|(?<!Bitmap )(Index)(?: Only)?) Scan .*?\bon (execution\w*|waiting|slot|in_flight|timer|outbox)\b"
)
READ_WHOLE = [executor_store.SQL[name] for name in ("leaked_slots", "lost_executions", "stranded_executions")]
READ_WHOLE += [worker_store.SQL["renew"], "EXISTS (SELECT 1 FROM timer)"]
"""What looks through all slots, or all that is in flight: as many as the limits and the windows allow."""
HISTORY = """
WITH old AS (
    INSERT INTO execution (id, status, attempt, moves, action, root_id, pool, request_hash, finished_at)
    SELECT id, 'completed', 1, 3, 'plan', id, 'default', '', now() FROM (SELECT gen_random_uuid() AS id
    FROM generate_series(1, $1::int)) s RETURNING id
), moved AS (
    INSERT INTO execution_transition (execution_id, move, target, attempt, epoch, actor)
    SELECT id, 1, 'scheduled', 1, 1, '/executor/test' FROM old
)
INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, started_at)
SELECT id, 1, 'completed', id, now() FROM old
"""
ENDED_BATCH = """
WITH made AS (
    INSERT INTO execution (id, kind, status, moves, action, root_id, pool, request_hash, finished_at)
    VALUES ($1, 'batch', 'failed', 2, 'plan', $1, 'default', '', now())
), counted AS (
    INSERT INTO batch (execution_id, definition, total, failed, planned_at, sealed_at, ended_at)
    VALUES ($1, '{}', $3, $3, now(), now(), now())
), cut AS (
    INSERT INTO execution (id, status, action, parent_id, root_id, child_key, pool, request_hash, finished_at)
    SELECT child_id($1, 1, n::text), 'failed', 'plan', $1, $1, n::text, 'default', '', now()
    FROM generate_series(1, $3::int) n
), looked_at AS (
    INSERT INTO batch_preview (plan_id, batch_id, epoch, cursor, planned_at) VALUES ($2, $1, 1, $3, now())
)
INSERT INTO batch_preview_key (plan_id, position, child_key, params)
SELECT $2, n, (n + $3::int / 5)::text, '{}' FROM generate_series(1, $3::int) n
"""
"""A batch that failed, and a plan of as many keys that was made anew: a fifth of them is new, a fifth of it is gone."""


def whole(plan: str) -> list[str]:
    """Return the lines of a plan that read a table that grows without a condition on its index."""
    allowed = ("slot", "in_flight", "timer") if any(statement in plan for statement in READ_WHOLE) else ()
    lines = [*plan.split("\n"), ""]
    read = [(number, match) for number, line in enumerate(lines) if (match := READ.search(line))]
    return [
        lines[number]
        for number, (by_index, table) in ((number, match.groups()) for number, match in read)
        if table not in allowed and not (by_index and "Index Cond:" in lines[number + 1])
    ]


async def explaining(database_url: str, plans: list[str], settings: Mapping[str, str] = HOT) -> Tx:
    """Connect, as a daemon if not said otherwise; every statement, inside functions too, adds its plan to `plans`."""
    connection: Tx = await asyncpg.connect(database_url, server_settings=dict(settings))
    await connection.execute(
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;"
        "SET auto_explain.log_level = notice"
    )

    def note(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        plans.append(str(message))

    connection.add_log_listener(note)
    return connection


def finish(row: asyncpg.Record) -> worker_store.Finish:
    """The completed end of a claimed row."""
    return worker_store.Finish(
        id=row["id"],
        action=row["action"],
        attempt=row["attempt"],
        target="completed",
        outcome="completed",
        result="null",
        error=None,
        error_class=None,
        error_text=None,
        fingerprint=None,
        exit_code=None,
        delay=0.0,
        started_at=datetime.now(UTC),
    )


async def live(connection: Tx, worker: UUID, count: int) -> None:
    """Take `count` executions through the whole path: accept, admit, claim both ways, renew, finish, release."""
    requests = [{"id": str(uuid7()), "action": "plan"} for _ in range(count)]
    accepted = await accept(connection, requests, catalog=Catalog(), actor=ACTOR, now=datetime.now(UTC))
    assert all(answer.accepted for answer in accepted.answers)
    offers = await connection.fetch(
        "SELECT execution_id, attempt FROM in_flight WHERE pool = 'default' ORDER BY since LIMIT 5"
    )
    claims = [await worker_store.claim(connection, worker, [tuple(o) for o in offers], "/worker/test")]
    claims.append(
        await worker_store.claim_from_table(
            connection, worker, pool="default", most=100, older=-1.0, actor="/worker/test"
        )
    )
    held = [row for claim in claims for row in claim.claimed]
    assert held
    await worker_store.renew(connection, worker, 60.0, [(row["id"], row["attempt"]) for row in held])
    moved, _ = await worker_store.finish(connection, worker, [finish(row) for row in held], "/worker/test")
    assert moved.keys() == {row["id"] for row in held}
    assert await executor_store.elsewhere(connection, [(one, Status.COMPLETED, 1, 1) for one in moved]) == {}
    admission = await executor_store.admit(connection, ACTOR, ended=sorted(moved))
    assert admission.released == len(moved)
    await executor_store.due_timers(connection)
    await executor_store.hungry_keys(connection)
    await executor_store.leaked_slots(connection)
    await executor_store.lost_executions(connection)
    await executor_store.stranded_executions(connection)
    await bury(connection, {uuid4(): "not wanted"}, ACTOR)
    await executor_store.late_tombstones(connection)
    assert len(await executor_store.elsewhere(connection, [(one, Status.RUNNING, 1, 1) for one in moved])) == len(moved)


@pytest.mark.parametrize("rows", [0, ROWS])
async def test_no_hot_statement_scans_a_table_that_grows(database_url: str, rows: int) -> None:
    plans: list[str] = []
    connection = await explaining(database_url, plans)
    try:
        worker = uuid4()
        await worker_store.register(
            connection, worker, pool="default", capacity=20, host="here", pid=1, containment="none", lease=600.0
        )
        await connection.execute(
            "INSERT INTO action (name, version, definition, checksum) VALUES ('plan', 1, $1, 'x')",
            '{"action": "plan", "command": ["true"]}',
        )
        await connection.fetchval("""SELECT set_queue('leaf', 'action:plan', '{"lim": 30}')""")
        # Prepared while the tables are empty, as daemons on a new database do; run again when they are not.
        await live(connection, worker, 50)
        if rows:
            await connection.execute("SET auto_explain.log_min_duration = -1")
            await connection.execute(HISTORY, rows)
            await connection.execute("SET auto_explain.log_min_duration = 0")
        plans.clear()
        await live(connection, worker, 50)
        assert len(plans) > 40, "auto_explain did not see the statements inside the functions"
        assert [line for plan in plans for line in whole(plan)] == []
        # Then as they are planned by whoever comes when the tables are large, and known to be.
        await connection.execute("SET auto_explain.log_min_duration = -1; ANALYZE")
        await connection.execute("SET auto_explain.log_min_duration = 0")
        plans.clear()
        await live(connection, worker, 50)
        assert [line for plan in plans for line in whole(plan)] == []
    finally:
        await connection.close()


async def test_a_list_without_children_reads_none_of_them(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings=COLD)
    try:
        await connection.execute(
            "INSERT INTO execution (id, status, action, parent_id, root_id, pool, request_hash)"
            " SELECT gen_random_uuid(), 'scheduled', 'plan', CASE WHEN n % 100 > 0 THEN gen_random_uuid() END,"
            " gen_random_uuid(), 'default', '' FROM generate_series(1, 20000) n; ANALYZE execution"
        )
        listed = "EXPLAIN (ANALYZE, FORMAT JSON) " + client_store.SQL["list"]
        for roots, index in ((True, "execution_root"), (False, "execution_pkey")):
            (plan,) = orjson.loads(await connection.fetchval(listed, None, None, None, None, 50, roots))
            (scan,) = plan["Plan"]["Plans"]
            assert (scan["Actual Rows"], scan.get("Rows Removed by Filter", 0)) == (50, 0)
            assert scan["Index Name"] == index
    finally:
        await connection.close()


async def test_a_page_of_what_a_restart_makes_again_reads_no_more_than_the_page(database_url: str) -> None:
    plans: list[str] = []
    connection = await explaining(database_url, plans)
    try:
        await connection.execute("SET auto_explain.log_analyze = on")
        batch = UUID(int=uuid7().int)
        await connection.execute(
            "INSERT INTO execution (id, status, action, parent_id, root_id, child_key, pool, request_hash)"
            " SELECT child_id($1, 1, n::text), 'failed', 'plan', $1, $1, n::text, 'default', ''"
            " FROM generate_series(1, 5000) n",
            batch,
        )
        await connection.execute("INSERT INTO batch (execution_id, definition) VALUES ($1, '{}')", batch)
        await connection.execute("ANALYZE execution")
        plans.clear()
        assert len(await worker_store.superseded(connection, batch, UUID(int=0), 1000)) == 1000
        (scan,) = [line for plan in plans for line in plan.splitlines() if " on execution " in line]
        assert re.search(r"Index Scan using execution_pkey .* rows=1000(\.00)? loops=1\)", scan)
    finally:
        await connection.close()


async def test_a_replan_reads_its_own_partitions_and_its_own_plan_a_few_times_and_nothing_of_others(
    database_url: str,
) -> None:
    plans: list[str] = []
    connection = await explaining(database_url, plans, COLD)
    try:
        await connection.execute("SET auto_explain.log_min_duration = -1")
        # Of other milliseconds: children of one are read together.
        batch, preview, other, elses = (UUID(int=uuid7().int + (number << 80)) for number in range(4))
        for identity, looked_at, size in ((batch, preview, 200), (other, elses, 30_000)):
            await connection.execute(ENDED_BATCH, identity, looked_at, size)
        await connection.execute("ANALYZE; SET auto_explain.log_analyze = on; SET auto_explain.log_min_duration = 0")
        found = await connection.fetch(client_store.SQL["difference"], batch, preview, ["failed"], None, None, 10)
        assert {(row["fate"], row["partitions"], row["again"]) for row in found} == {
            ("new", 40, 0),
            ("gone", 40, 0),
            ("same", 160, 160),
        }
        arguments = (batch, 1, preview, ["failed"], None, None, uuid4(), "default", 0, None, "again", ACTOR)
        done = await connection.fetchrow(client_store.SQL["replan_batch"], *arguments)
        assert [*(done or ())][:2] == [200, 40]
        assert len(await worker_store.previewed(connection, preview, -1, 100)) == 100
        read = [
            line
            for plan in plans
            for line in plan.splitlines()
            if re.search(r" on (execution|batch_preview_key)\b", line)
        ]
        assert len(read) > 8
        for line in read:
            assert "Seq Scan" not in line, line
            rows, loops = re.findall(r"rows=([\d.]+) loops=(\d+)\)|$", line)[0]
            assert float(rows or 0) * float(loops or 0) <= 201, line
    finally:
        await connection.close()


async def test_reading_a_batch_walks_over_nothing_that_grows(database_url: str) -> None:
    plans: list[str] = []
    connection = await explaining(database_url, plans)
    try:
        await connection.execute("RESET plan_cache_mode; RESET enable_seqscan; RESET enable_hashjoin")
        for _ in range(2):
            plans.clear()
            assert await connection.fetch(client_store.SQL["batch"], uuid4()) == []
            (read,) = [plan for plan in plans if "in_flight" in plan]
            assert whole(read) == []
            await connection.execute("SET auto_explain.log_min_duration = -1")
            await connection.execute(HISTORY, 5000)
            await connection.execute("ANALYZE; SET auto_explain.log_min_duration = 0")
    finally:
        await connection.close()
