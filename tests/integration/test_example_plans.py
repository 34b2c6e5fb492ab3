"""The batches of the examples that a function plans, planned by it: from a CSV file, and from a query."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from examples import plans
from interlock.acceptance.catalog import Catalog
from interlock.actions import files
from interlock.adapters.postgres import open_pool
from interlock.client.client import Client
from interlock.contract.identity import child_id
from tests.attempts import claim, finish
from tests.batches import counts, drives, status
from tests.running import runners
from tests.world import request
from worker.holdings import Holding
from worker.planning import Planner
from worker.plans import PlanFailed
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.world import World
    from worker.outcome import Outcome

EXAMPLES = Path(plans.__file__).parent
USERS = ["alice", "bob", "carol"]
FIRST, LAST = date(2026, 1, 1), date(2026, 1, 20)


@pytest.fixture
async def registered(world: World) -> World:
    """A world in which the batches of the examples are registered."""
    async with Client.connect(world.url) as client:
        await client.apply_actions(found.content for found in files.load(EXAMPLES / "batches"))
    return world


@asynccontextmanager
async def orders(world: World) -> AsyncIterator[None]:
    """Fill the shop's tables with the orders of three users; on some days some have none."""
    made = (EXAMPLES / "sql" / "bi_orders.sql").read_text(encoding="utf-8")
    await world.tx.execute((EXAMPLES / "sql" / "bi_tables.sql").read_text(encoding="utf-8"))
    try:
        await world.tx.execute(made, USERS, FIRST, LAST)
        yield
    finally:
        await world.tx.execute("DROP SCHEMA demo CASCADE")


async def planned(world: World, batch: str, params: dict[str, Any]) -> tuple[UUID, Outcome]:
    """Start a batch and plan it as a worker does; return its id and how the planning ended."""
    wanted = request(batch, params=params)
    (answer,) = (await world.accept(wanted)).answers
    assert answer.refused is None, answer.refused
    identity = UUID(wanted["id"])
    plan = child_id(identity, 1, "$plan")
    assert plan in await claim(world, plan)
    pool = await open_pool(world.url, application="test", size=2)
    try:
        planner = Planner(world.hand, pool=pool, catalog=Catalog())
        holding = Holding(id=plan, attempt=1, started_at=datetime.now(UTC))
        async with runners(plans.__name__) as run:
            outcome = await planner.run(holding, LogSink(lambda _entry: None), run.run)
    finally:
        await pool.close()
    assert await finish(world, plan, str(outcome.status)) == outcome.status
    return identity, outcome


async def partitions(world: World, batch: UUID) -> list[tuple[str, str, dict[str, Any]]]:
    """The partitions of a batch: (key, action, parameters)."""
    rows = await world.tx.fetch(
        "SELECT child_key, action, params::text AS params FROM execution"
        " WHERE parent_id = $1 AND child_key <> '$plan' ORDER BY child_key",
        batch,
    )
    return [(row["child_key"], row["action"], json.loads(row["params"])) for row in rows]


async def test_each_row_of_the_csv_file_is_a_partition(registered: World) -> None:
    path = EXAMPLES / "csv" / "customers.csv"
    batch, outcome = await planned(registered, "csv-greetings", {"path": str(path)})
    assert outcome.result == {"partitions": 3}
    assert await partitions(registered, batch) == [
        (mail, "customer.greet", {"mail": mail, "name": name})
        for mail, name in [
            ("ada@example.org", "Ada"),
            ("grace@example.org", "Hopper, Grace"),
            ("katherine@example.org", "Katherine"),
        ]
    ]
    assert await counts(registered, batch) == {"total": 3}


async def test_a_row_that_the_action_refuses_fails_alone(registered: World, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("\ufeffmail,name\na@example.org,A\nb@example.org\nc@example.org,C\n", encoding="utf-8")
    batch, _ = await planned(registered, "csv-greetings", {"path": str(path)})
    assert await counts(registered, batch) == {"total": 3, "failed": 1}


@pytest.mark.parametrize(
    ("text", "error_class", "part"),
    [
        ("mail,name\na@example.org,A,too,many\n", "PlanUnreadable", "item 1 of the plan: the item is not a JSON value"),
        ('mail,name\na@example.org,A\nb@example.org,"B" or so\n', "_csv.Error", "expected after"),
    ],
    ids=["too many fields", "quoted wrongly"],
)
async def test_a_broken_file_plans_nothing(
    registered: World, tmp_path: Path, text: str, error_class: str, part: str
) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanFailed) as raised:
        await planned(registered, "csv-greetings", {"path": str(path)})
    failure = raised.value.outcome.failure
    assert failure is not None
    assert failure.error_class == error_class
    assert part in failure.message
    assert await registered.tx.fetchval("SELECT count(*) FROM execution WHERE action = 'customer.greet'") == 0


async def test_each_user_and_day_that_the_query_finds_is_a_partition(
    registered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plans.ADDRESS, registered.url)
    monkeypatch.setattr(plans, "ROWS", 7)  # so that the cursor fetches more than once
    async with orders(registered):
        found = await registered.tx.fetch(
            "SELECT DISTINCT customer, day::text FROM demo.orders WHERE day BETWEEN $1 AND $2", FIRST, date(2026, 1, 15)
        )
        batch, outcome = await planned(registered, "bi-ordered-days", {"first": str(FIRST), "last": "2026-01-15"})
    # Some have no orders on some days, or the query would tell nothing.
    assert 7 < len(found) < 15 * len(USERS)
    assert outcome.result == {"partitions": len(found)}
    assert await partitions(registered, batch) == sorted(
        (f"{row['day']}/{row['customer']}", "bi.user-day", {"user": row["customer"], "day": row["day"]})
        for row in found
    )


async def test_a_query_that_finds_nothing_is_a_batch_without_partitions(
    registered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plans.ADDRESS, registered.url)
    async with orders(registered):
        batch, outcome = await planned(registered, "bi-ordered-days", {"first": "2025-01-01", "last": "2025-12-31"})
    assert outcome.result == {"partitions": 0}
    await drives(registered, batch)
    assert await status(registered, batch) == "completed"
