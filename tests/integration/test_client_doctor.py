"""The doctor: silent on a healthy database, and each check red for the one row that breaks its rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.client.doctor import CHECKS, FINDINGS, MIGRATIONS
from interlock.contract.status import Status
from tests.factory import PATHS, make_action, make_execution, make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from interlock.client import Client

# Each statement breaks one rule, told by $1, an execution that was healthy at the status given.
BROKEN: dict[str, tuple[Status, str]] = {
    "nothing_after_the_end": (
        Status.COMPLETED,
        """
        WITH t AS (INSERT INTO execution_transition
        SELECT id, moves + 1, 1000, 'completed', 'running', 1, 1, '/worker/x'
        FROM execution WHERE id = $1) UPDATE execution SET moves = moves + 1 WHERE id = $1
        """,
    ),
    "ended_by_a_move": (Status.RUNNING, "UPDATE execution SET status = 'completed' WHERE id = $1"),
    "one_end": (
        Status.COMPLETED,
        """
        WITH t AS (INSERT INTO execution_transition
        SELECT id, moves + 1, 1000, 'completed', 'failed', 1, 1, '/worker/x'
        FROM execution WHERE id = $1) UPDATE execution SET moves = moves + 1 WHERE id = $1
        """,
    ),
    "active_is_slots": (Status.RUNNING, "UPDATE queue SET active = active + ($1::uuid IS NOT NULL)::int"),
    "slots_come_back": (
        Status.COMPLETED,
        """
        WITH t AS (UPDATE execution_transition SET at = now() - interval '11 seconds' WHERE execution_id = $1),
        q AS (UPDATE queue SET active = 1 WHERE scope = 'leaf' RETURNING id)
        INSERT INTO slot (execution_id, key_id) SELECT $1, id FROM q
        """,
    ),
    "over_limit": (
        Status.RUNNING,
        """
        WITH q AS (
            UPDATE queue SET lim = 0, active = 1, limited_at = now() - interval '1 hour' WHERE scope = 'leaf'
            RETURNING id
        )
        INSERT INTO slot (execution_id, key_id) SELECT $1, id FROM q
        """,
    ),
    "in_flight_is_status": (Status.RUNNING, "DELETE FROM in_flight WHERE execution_id = $1"),
    "first_in_first_out": (
        Status.RUNNING,
        """
        UPDATE execution_transition t SET lane_id = 1, seq = CASE execution_id WHEN $1 THEN 1 ELSE 2 END
        WHERE target = 'scheduled'
        """,
    ),
    "waiting_is_rows": (Status.RUNNING, "UPDATE queue SET waiting = waiting + ($1::uuid IS NOT NULL)::int"),
    "waiting_is_status": (Status.REQUESTED, "UPDATE execution SET lane_id = 1, seq = 1 WHERE id = $1"),
    "counts_are_rows": (
        Status.RUNNING,
        """
        WITH e AS (UPDATE execution SET kind = 'batch' WHERE id = $1),
        f AS (DELETE FROM in_flight WHERE execution_id = $1)
        INSERT INTO batch (execution_id, definition, total) VALUES ($1, '{}', 1)
        """,
    ),
    "batch_ends_with_its_partitions": (
        Status.RUNNING,
        """
        WITH e AS (UPDATE execution SET kind = 'batch' WHERE id = $1),
        f AS (DELETE FROM in_flight WHERE execution_id = $1)
        INSERT INTO batch (execution_id, definition, ended_at) VALUES ($1, '{}', now())
        """,
    ),
    "legal_moves": (
        Status.COMPLETED,
        "UPDATE execution_transition SET actor = '/executor/x' WHERE execution_id = $1 AND target = 'completed'",
    ),
    "gapless_moves": (Status.REQUESTED, "DELETE FROM execution_transition WHERE execution_id = $1"),
    "moves_join": (
        Status.CANCELLED,
        "UPDATE execution_transition SET source = 'scheduled' WHERE execution_id = $1 AND move = 2",
    ),
    "last_move_is_status": (Status.RUNNING, "UPDATE execution SET status = 'scheduled' WHERE id = $1"),
    "result_has_attempt": (Status.COMPLETED, "DELETE FROM execution_attempt WHERE execution_id = $1"),
    "one_result": (
        Status.COMPLETED,
        """
        INSERT INTO execution_attempt SELECT execution_id, 0, 'partial', worker_id, '', '', '', 0, now()
        FROM execution_attempt WHERE execution_id = $1
        """,
    ),
    "no_idle_moves": (
        Status.RUNNING,
        "UPDATE execution_transition SET source = target WHERE execution_id = $1 AND move = 3",
    ),
    "something_moves_it": (Status.REQUESTED, "DELETE FROM timer WHERE execution_id = $1"),
    "parked_for_a_cause": (
        Status.RUNNING,
        """
        INSERT INTO lane (keys, priority, head_seq, parked_on)
        SELECT ARRAY[id], 0, 1, id FROM queue WHERE scope = 'leaf' AND $1::uuid IS NOT NULL
        """,
    ),
}
# What a broken row cannot help breaking as well.
ALSO = {
    "nothing_after_the_end": {"legal_moves", "ended_by_a_move", "last_move_is_status"},
    "ended_by_a_move": {"one_end", "in_flight_is_status", "last_move_is_status", "result_has_attempt"},
    "one_end": {"nothing_after_the_end", "legal_moves", "last_move_is_status"},
    "counts_are_rows": {"legal_moves"},
    "batch_ends_with_its_partitions": {"legal_moves"},
    "gapless_moves": {"ended_by_a_move"},
    "no_idle_moves": {"legal_moves", "moves_join"},
}
FOUND = {
    "late_messages": (
        "INSERT INTO outbox (role, exchange, routing_key, events, body, created_at)"
        " VALUES ('worker', 'status', 'k', 1, '{}', now() - interval '11 seconds')"
    ),
    "unroutable_messages": (
        "INSERT INTO outbox (role, exchange, routing_key, events, body, error, tries)"
        " VALUES ('executor', 'dispatch', 'k', 1, '{}', 'no queue takes it', 3)"
    ),
    "poison_messages": "INSERT INTO poison_message (queue, reason, detail, body) VALUES ('q', 'malformed', 'why', '')",
    "no_worker": "UPDATE queue SET waiting = 1 WHERE scope = 'pool'",
    "migrations": "INSERT INTO migration VALUES (9999, 'tomorrow', 'x', '0')",
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own connection, with the guards against broken rows off."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE execution DISABLE TRIGGER execution_move_guard")
    await connection.execute("INSERT INTO queue (scope, name) VALUES ('leaf', 'action:job'), ('pool', 'default')")
    yield connection
    await connection.close()


async def test_a_healthy_database_has_nothing_to_report_whatever_its_executions_do(
    client: Client, connection: asyncpg.Connection
) -> None:
    for status in PATHS:
        await make_execution(connection, status=status)
    await make_action(connection, "real")
    await client.submit([{"action": "real"}, {"action": "unknown"}])
    found = await client.examine()
    assert [verdict for verdict in found.invariants if verdict.count] == []
    assert [verdict for verdict in found.findings if verdict.count] == []


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
async def test_each_check_shows_the_row_that_breaks_its_rule(
    client: Client, connection: asyncpg.Connection, name: str
) -> None:
    status, statement = BROKEN[name]
    worker = await make_worker(connection)
    for healthy in (Status.REQUESTED, Status.RUNNING, Status.COMPLETED):
        await make_execution(connection, status=healthy, worker=worker)
    victim = await make_execution(connection, status=status, worker=worker)
    await connection.execute(statement, victim)

    found = await client.examine()

    red = {verdict.name: verdict for verdict in found.invariants if verdict.count}
    assert red.keys() == {name} | ALSO.get(name, set())
    rows = red[name].rows
    assert {row.subject for row in rows} & {str(victim), "leaf action:job"}
    assert all(row.detail for row in rows)


@pytest.mark.parametrize("name", [check.name for check in (*FINDINGS, MIGRATIONS)])
async def test_each_finding_is_shown_without_being_a_violation(
    client: Client, connection: asyncpg.Connection, name: str
) -> None:
    await connection.execute(FOUND[name])
    found = await client.examine()
    assert [(verdict.name, verdict.count) for verdict in found.findings if verdict.count] == [(name, 1)]


async def test_a_slot_may_outlive_its_execution_for_ten_seconds(client: Client, connection: asyncpg.Connection) -> None:
    ended = await make_execution(connection, status=Status.COMPLETED)
    await connection.execute(
        "WITH q AS (UPDATE queue SET active = 1 WHERE scope = 'leaf' RETURNING id)"
        " INSERT INTO slot (execution_id, key_id) SELECT $1, id FROM q",
        ended,
    )
    assert (await client.examine()).violations == 0


async def test_at_most_twenty_rows_are_shown_and_all_are_counted(
    client: Client, connection: asyncpg.Connection
) -> None:
    worker = await make_worker(connection)
    for _ in range(25):
        await make_execution(connection, status=Status.RUNNING, worker=worker)
    await connection.execute("DELETE FROM in_flight")
    (verdict,) = [each for each in (await client.examine()).invariants if each.count]
    assert (verdict.count, len(verdict.rows)) == (25, 20)
