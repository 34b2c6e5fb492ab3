"""What a batch starts when something happens to it: once for each event and epoch, and never a part of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from executor.handlers import parents
from executor.handlers.callbacks import call_back
from executor.loops import reconciler
from interlock.client.client import Client
from interlock.contract.errors import Transient
from tests.attempts import claim, finish
from tests.batches import counts, drives, end, open_batch, seal, sealed_batch, status
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from executor.handlers.outgoing import Outgoing
    from executor.loops.periodic import Context
    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.postgres import Tx
    from tests.world import World

EVENTS = ["started", "first_failure", "finished", "completed", "partial", "failed", "cancelled", "timed_out"]
PARAMS = {
    "event": "{{ batch.event }}",
    "status": "{{ batch.status }}",
    "failed": "{{ batch.failed }}",
    "id": "{{ batch.id }}",
}


@pytest.fixture
def told() -> dict[str, Any]:
    return {"notify": [{"on": EVENTS, "action": "tell", "params": PARAMS}]}


async def calls(world: World, batch: UUID) -> list[dict[str, Any]]:
    """The parameters of what a batch has started, in the order of acceptance."""
    rows = await world.tx.fetch(
        "SELECT params::text, parent_id, kind FROM execution WHERE tags ? $1 ORDER BY requested_at, id",
        f"batch:{batch}",
    )
    assert all(row["parent_id"] is None and row["kind"] == "action" for row in rows)
    return [json.loads(row["params"]) for row in rows]


async def events(world: World, batch: UUID) -> list[str]:
    return sorted(call["event"] for call in await calls(world, batch))


async def test_each_event_starts_its_action_once_with_the_facts_of_its_moment(
    world: World, told: dict[str, Any]
) -> None:
    await world.register("tell")
    made = await sealed_batch(world, 3, **told)
    await drives(world, made.id)
    assert await events(world, made.id) == ["started"]
    await end(world, made.partitions[0], target="failed")
    await end(world, made.partitions[1], target="failed")
    await drives(world, made.id)
    await drives(world, made.id)
    assert await events(world, made.id) == ["first_failure", "started"]
    await end(world, made.partitions[2])
    await drives(world, made.id)
    await drives(world, made.id)
    assert await events(world, made.id) == ["finished", "first_failure", "partial", "started"]
    (finished,) = [call for call in await calls(world, made.id) if call["event"] == "finished"]
    assert finished == {"event": "finished", "status": "partial", "failed": 2, "id": str(made.id)}
    assert await counts(world, made.id) == {"total": 3, "completed": 1, "failed": 2}


async def test_a_cancelled_batch_is_told_too(world: World, told: dict[str, Any]) -> None:
    await world.register("tell")
    made = await open_batch(world, 1, **told)
    await world.admit(decide={made.id: "cancelled"})
    await drives(world, made.id)
    await drives(world, made.id)
    assert await events(world, made.id) == ["cancelled", "finished", "started"]


async def test_a_batch_that_was_cancelled_before_it_came_tells_of_its_end_and_of_no_start(
    world: World, told: dict[str, Any], context: Context
) -> None:
    await world.register("tell")
    wanted = request("cut", definition={"run": {"action": "job"}, "partition": {"items": [1]}, **told})
    await world.tx.execute(
        "INSERT INTO cancel_tombstone VALUES ($1::uuid, 'too early', '/client/test', now() + interval '1 hour')",
        wanted["id"],
    )
    await world.accept(wanted)
    await world.accept(wanted)
    await reconciler.Batches()(context)
    assert await events(world, UUID(wanted["id"])) == ["cancelled", "finished"]


async def test_a_restarted_batch_tells_again_in_its_epoch(world: World, told: dict[str, Any]) -> None:
    await world.register("tell")
    made = await open_batch(world, 1, **told)
    await seal(world, made.id)
    await end(world, made.partitions[0], target="failed")
    await drives(world, made.id)
    first = await events(world, made.id)
    async with Client.connect(world.url) as client:
        assert await client.batches.restart(made.id) == 1
    await drives(world, made.id)
    assert await events(world, made.id) == sorted([*first, "started"])


async def test_an_executor_that_dies_before_it_notes_a_call_makes_no_second_one(
    world: World, told: dict[str, Any]
) -> None:
    await world.register("tell")
    made = await sealed_batch(world, 1, **told)
    await call_back(world.tx, [made.id], ACTOR, world.catalog)
    await world.tx.execute("UPDATE batch_callback SET requested_at = NULL")
    await call_back(world.tx, [made.id], ACTOR, world.catalog)
    assert await events(world, made.id) == ["started"]


async def test_a_call_for_an_unknown_action_is_refused_for_everybody_to_see(world: World, told: dict[str, Any]) -> None:
    made = await sealed_batch(world, 1, **told)
    await drives(world, made.id)
    row = await world.tx.fetchrow(
        "SELECT status::text, error ->> 'class' AS class FROM execution WHERE tags ? $1", f"batch:{made.id}"
    )
    assert row is not None
    assert tuple(row) == ("failed", "unknown_action")
    await claim(world, *made.partitions)
    await finish(world, made.partitions[0], "completed")
    await drives(world, made.id)
    assert await status(world, made.id) == "completed"


async def test_the_reconciler_finds_calls_that_nobody_made(
    world: World, told: dict[str, Any], context: Context
) -> None:
    await world.register("tell")
    made = await sealed_batch(world, 1, **told)
    await reconciler.Batches()(context)
    assert await events(world, made.id) == ["started"]


async def test_a_pass_that_is_cut_short_goes_on_behind_the_batch_that_it_stopped_at(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted([(await open_batch(world, 1)).id for _ in range(3)])
    await world.tx.execute(
        "UPDATE batch SET progressed_at = now() - interval '1 minute', planned_at = now() - interval '1 minute';"
        "UPDATE execution SET started_at = now() - interval '1 minute' WHERE kind = 'batch'"
    )
    driven: list[UUID] = []

    async def drive(tx: Tx, some: Sequence[UUID], actor: str, catalog: Catalog) -> Outgoing:
        driven.extend(some)
        if driven == ids[:2]:
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await parents.drive(tx, some, actor, catalog)

    monkeypatch.setattr(reconciler, "drive", drive)
    looks = reconciler.Batches()
    with pytest.raises(Transient):
        await looks(context)
    await looks(context)
    await looks(context)
    assert driven == [*ids[:2], ids[2], *ids]
