"""The database refuses what the table of moves does not allow, and knows which weeks its history has partitions for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from interlock.adapters.migrations import available
from interlock.contract.status import TRANSITIONS, Status, Subject, guard_condition
from tests.world import fresh_id

if TYPE_CHECKING:
    from tests.world import World

KINDS = {"action": Subject.LEAF, "workflow": Subject.PARENT, "batch": Subject.PARENT}
MOVE = (
    "INSERT INTO execution_transition (execution_id, move, target, attempt, epoch, actor)"
    " VALUES ($1, 1, 'requested', 0, 1, 'x')"
)


async def put(world: World, state: str, kind: str = "action") -> UUID:
    """Insert a row in any state, past every rule."""
    identity = fresh_id()
    await world.tx.execute(
        "INSERT INTO execution (id, kind, status, action, root_id, pool, request_hash)"
        " VALUES ($1, $2, $3, 'x', $1, 'x', '')",
        identity,
        kind,
        state,
    )
    return identity


@pytest.mark.parametrize("kind", KINDS)
async def test_every_pair_of_statuses_is_allowed_exactly_when_the_table_allows_it(world: World, kind: str) -> None:
    legal = {(move.source, move.target) for move in TRANSITIONS if move.subject is KINDS[kind]}
    transaction = world.tx.transaction()
    await transaction.start()
    for source, target in product(Status, Status):
        identity = await put(world, source, kind)
        refusal = ""
        try:
            async with world.tx.transaction():
                await world.tx.execute("UPDATE execution SET status = $2 WHERE id = $1", identity, target)
        except asyncpg.IntegrityConstraintViolationError as refused:
            refusal = str(refused)
        expected = "" if (source, target) in legal else f"illegal move of {kind} {identity}: {source} to {target}"
        assert refusal == expected
    await transaction.rollback()


async def test_an_update_that_does_not_touch_the_status_is_not_guarded(world: World) -> None:
    identity = await put(world, "completed")
    assert await world.tx.execute("UPDATE execution SET result = '1' WHERE id = $1", identity) == "UPDATE 1"
    await world.tx.execute("DELETE FROM execution WHERE id = $1", identity)


def test_the_migration_holds_the_guard_that_the_table_generates() -> None:
    assert sum(migration.text.count(guard_condition()) for migration in available()) == 1


async def test_the_database_knows_the_same_statuses_and_ends(world: World) -> None:
    rows = await world.tx.fetch(
        "SELECT s::text AS name, is_terminal(s) AS ended FROM unnest(enum_range(NULL::status)) s"
    )
    assert [row["name"] for row in rows] == list(Status)
    assert {row["name"] for row in rows if not row["ended"]} == {"requested", "scheduled", "running", "cancelling"}


async def test_an_id_of_now_lands_in_the_partition_of_its_week_and_an_old_one_in_the_rest(world: World) -> None:
    transaction = world.tx.transaction()
    await transaction.start()
    for identity in (fresh_id(), UUID("00000000-0000-7000-8000-000000000000")):
        await world.tx.execute(MOVE, identity)
    rows = await world.tx.fetch(
        "SELECT tableoid::regclass::text AS home FROM execution_transition ORDER BY execution_id"
    )
    week = await world.tx.fetchval("""SELECT to_char(now() AT TIME ZONE 'UTC', 'IYYY"w"IW')""")
    assert [row["home"] for row in rows] == ["execution_transition_rest", f"execution_transition_{week}"]
    await transaction.rollback()


async def test_partitions_are_made_ahead_and_only_once(world: World) -> None:
    assert await world.tx.fetchval("SELECT make_partitions(4)") == 0
    transaction = world.tx.transaction()
    await transaction.start()
    assert await world.tx.fetchval("SELECT make_partitions(6)") == 6  # two more weeks of three tables
    await transaction.rollback()


async def test_a_week_whose_rows_came_before_its_partition_does_not_stop_the_others(world: World) -> None:
    late = datetime.now(UTC) + timedelta(weeks=5)
    transaction = world.tx.transaction()
    await transaction.start()
    await world.tx.execute(MOVE, UUID(int=(int(late.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62)))
    assert await world.tx.fetchval("SELECT make_partitions(6)") == 5
    await transaction.rollback()


async def test_the_floor_of_a_moment_is_below_every_id_made_from_then_on(world: World) -> None:
    identity = fresh_id()
    made = datetime.fromtimestamp((identity.int >> 80) / 1000, tz=UTC)
    floor = await world.tx.fetchval("SELECT uuid_floor($1)", made)
    assert str(floor) == f"{identity.hex[:8]}-{identity.hex[8:12]}-0000-0000-000000000000"
    assert floor < identity < await world.tx.fetchval("SELECT uuid_floor($1)", made + timedelta(milliseconds=1))
    assert await world.tx.fetchval("SELECT uuid_floor('1970-01-01Z')") == UUID(int=0)
