"""Planning: partitions in chunks under the fence of an attempt, from where another stopped, and nothing twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from interlock.acceptance.catalog import Catalog
from interlock.adapters.postgres import open_pool
from interlock.client.client import Client
from interlock.contract.definitions import Retry
from interlock.contract.errors import InvalidParams
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.batches import counts, drives, end, status
from tests.eventually import eventually
from tests.world import request
from worker import planning, store
from worker.holdings import Holding
from worker.outcome import Outcome, failed, settle
from worker.planning import Planner
from worker.plans import PlanFailed
from worker.runners.logsink import LogEntry, LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from interlock.acceptance.entries import Entry
    from interlock.adapters.postgres import Tx
    from tests.world import World

CHUNK = 10
CUT_WHO_WAITS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", CHUNK)


class Stage:
    """A batch with a plan, and the planner of the worker that has claimed it."""

    def __init__(self, world: World, planner: Planner, batch: UUID) -> None:
        self.world = world
        self.planner = planner
        self.batch = batch
        self.plan = child_id(batch, 1, "$plan")
        self.printed: list[str] = []
        self.returned: Outcome = settle([])
        self.logged: list[LogEntry] = []

    async def run(self, attempt: int = 1) -> Outcome:
        """Plan with one attempt."""
        holding = Holding(id=self.plan, attempt=attempt, started_at=datetime.now(UTC))
        return await self.planner.run(holding, LogSink(self.logged.append), self._run_action)

    async def _run_action(self, entry: Entry, params: dict[str, Any], holding: Holding, sink: LogSink) -> Outcome:
        del entry, params, holding
        for line in self.printed:
            sink.write("stdout", line)
        sink.write("stderr", "looking around")
        return self.returned

    async def keys(self) -> list[str]:
        """The keys of all partitions."""
        rows = await self.world.tx.fetch(
            "SELECT child_key FROM execution WHERE parent_id = $1 AND child_key <> '$plan'", self.batch
        )
        return sorted((row["child_key"] for row in rows), key=lambda key: (len(key), key))

    async def again(self) -> None:
        """Give the planning back as a drain does, and let it be claimed once more."""
        assert await finish(self.world, self.plan, "requested", outcome="handed_back") == "requested"
        await self.world.admit(entering=[self.plan])
        assert self.plan in await claim(self.world, self.plan, attempt=2)


@asynccontextmanager
async def stage(world: World, partition: dict[str, Any], **definition: Any) -> AsyncIterator[Stage]:  # noqa: ANN401
    """A batch whose planning a worker has claimed."""
    given = {"run": {"action": "job", "params": {}}, "partition": partition, **definition}
    wanted = request("cut", definition=given)
    (answer,) = (await world.accept(wanted)).answers
    assert answer.refused is None, answer.refused
    batch = UUID(wanted["id"])
    assert child_id(batch, 1, "$plan") in await claim(world, child_id(batch, 1, "$plan"))
    pool = await open_pool(world.url, application="test", size=2)
    try:
        yield Stage(world, Planner(world.hand, pool=pool, catalog=Catalog()), batch)
    finally:
        pool.terminate()


def numbers(last: int) -> dict[str, Any]:
    return {"range": {"from": 1, "to": last, "step": 1}}


@pytest.mark.parametrize("total", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_a_plan_is_made_whole_and_sealed_with_its_last_chunk(world: World, total: int) -> None:
    items = list(range(total))
    async with stage(world, {"items": items}) as it:
        outcome = await it.run()
        assert (outcome.status, outcome.result) == (Status.COMPLETED, {"partitions": total})
        assert await it.keys() == [str(n) for n in items]
        row = await world.tx.fetchrow("SELECT total, plan_cursor, sealed_at, planned_at FROM batch")
        assert row is not None
        assert (row["total"], row["plan_cursor"]) == (total, total)
        assert row["sealed_at"] is not None
        assert row["planned_at"] is not None
        assert await finish(world, it.plan, "completed") == "completed"
        assert await counts(world, it.batch) == ({"total": total} if total else {})
        await drives(world, it.batch)
        assert await status(world, it.batch) == ("running" if total else "completed")


async def test_another_attempt_plans_on_from_where_the_first_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(world, numbers(35)) as it:
        await stops_behind(monkeypatch, chunks=2)
        with pytest.raises(Stopped):
            await it.run()
        assert len(await it.keys()) == 2 * CHUNK
        monkeypatch.undo()
        monkeypatch.setattr(planning, "CHUNK", CHUNK + 3)  # whatever a chunk is in the version that goes on
        await it.again()
        assert (await it.run(attempt=2)).result == {"partitions": 35}
        assert await it.keys() == [str(n) for n in range(1, 36)]
        assert await counts(world, it.batch) == {"total": 35}


class Stopped(BaseException):
    """The worker dies here."""


async def stops_behind(monkeypatch: pytest.MonkeyPatch, *, chunks: int) -> None:
    left = chunks

    async def dies(_point: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Stopped

    monkeypatch.setattr(planning, "reached", dies)


async def test_an_attempt_without_the_fence_plans_nothing(world: World) -> None:
    async with stage(world, numbers(3)) as it:
        await it.again()
        outcome = await it.run(attempt=1)
        assert outcome.failure is not None
        assert outcome.failure.error_class == "BatchEnded"
        assert await it.keys() == []


async def test_a_batch_that_is_cancelled_meanwhile_is_planned_no_further(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(world, numbers(35)) as it:

        async def cancelled(_point: str) -> None:
            await world.admit(decide={it.batch: "cancelled"})

        monkeypatch.setattr(planning, "reached", cancelled)
        outcome = await it.run()
        assert outcome.failure is not None
        assert outcome.failure.error_class == "BatchEnded"
        assert len(await it.keys()) == CHUNK


async def test_a_key_that_is_there_twice_fails_the_plan_and_names_it(world: World) -> None:
    for far in (False, True):
        items = [*range(3 * CHUNK if far else 3), 1]
        async with stage(world, {"items": items}) as it:
            outcome = await it.run()
            assert outcome.failure is not None
            assert outcome.failure.error_class == "DuplicatePartition"
            assert "'1'" in outcome.failure.message


async def test_a_plan_of_another_attempt_must_find_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(world, {"action": "job"}) as it:
        it.printed = [str(n) for n in range(35)]
        await stops_behind(monkeypatch, chunks=1)
        with pytest.raises(Stopped):
            await it.run()
        monkeypatch.undo()
        monkeypatch.setattr(planning, "CHUNK", CHUNK)
        await it.again()
        it.printed[4] = "99"
        outcome = await it.run(attempt=2)
        assert outcome.failure is not None
        assert outcome.failure.error_class == "PlanChanged"


async def test_what_a_command_prints_is_the_plan_and_what_else_it_says_is_logged(world: World) -> None:
    async with stage(world, {"action": "job"}, key="{{ item.day }}") as it:
        it.printed = ['{"day": "monday"}', "", '{"day": "tuesday"}']
        assert (await it.run()).result == {"partitions": 2}
        assert await it.keys() == ["monday", "tuesday"]
        assert [entry.line for entry in it.logged] == ["looking around"]


async def test_a_broken_line_late_in_a_plan_leaves_nothing_half_planned(world: World) -> None:
    async with stage(world, {"action": "job"}) as it:
        it.printed = [*map(str, range(5 * CHUNK)), "{broken"]
        with pytest.raises(Exception, match=r"line 51 of the plan is not JSON"):
            await it.run()
        assert await it.keys() == []


async def test_a_planner_that_fails_fails_the_plan_as_it_failed(world: World) -> None:
    """And is tried again as the planner's own action says."""
    async with stage(world, {"action": "job"}) as it:
        it.printed = ["1"]
        it.returned = failed("ExitCode", "exited with 1")
        with pytest.raises(PlanFailed) as raised:
            await it.run()
        assert raised.value.outcome == replace(it.returned, retry=Retry())
        assert await it.keys() == []


async def test_a_partition_that_its_action_refuses_fails_and_the_others_are_made(world: World) -> None:
    await world.register(
        "strict", params={"type": "object", "properties": {"n": {"type": "integer", "maximum": 2}}, "required": ["n"]}
    )
    run = {"action": "strict", "params": {"n": "{{ item }}"}}
    async with stage(world, numbers(3), run=run) as it:
        assert (await it.run()).status is Status.COMPLETED
        assert await counts(world, it.batch) == {"total": 3, "failed": 1}
        third = child_id(it.batch, 1, "3")
        message = await world.tx.fetchval("SELECT error ->> 'message' FROM execution WHERE id = $1", third)
        assert "params.n" in message


async def test_a_partition_that_was_refused_is_made_again_with_what_was_refused(world: World) -> None:
    strict = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2}}}
    await world.register("strict", params=strict)
    async with stage(world, numbers(3), run={"action": "strict", "params": {"n": "{{ item }}"}}) as it:
        await it.run()
        await finish(world, it.plan, "completed")
        for key in ("1", "2"):
            await end(world, child_id(it.batch, 1, key))
        await drives(world, it.batch)
        assert await status(world, it.batch) == "partial"
        await world.register("strict", params={"type": "object"})
        assert await restarts(world, it.batch) == 1
        it.plan = child_id(it.batch, 2, "$plan")
        assert it.plan in await claim(world, it.plan)
        assert (await it.run()).result == {"partitions": 1}
        made = "SELECT status || ' ' || params FROM execution WHERE id = $1"
        assert await world.tx.fetchval(made, child_id(it.batch, 2, "3")) == 'scheduled {"n": 3}'


async def test_parameters_that_no_row_can_hold_fail_the_plan_and_name_the_partition(world: World) -> None:
    run = {"action": "job", "params": {"n": "{{ item * 10 ** 9 }}"}}
    async with stage(world, {"items": [1, 10**10]}, run=run) as it:
        with pytest.raises(InvalidParams, match=r"partition 2 .*: run\.params\.n: the value holds a number"):
            await it.run()
        assert await it.keys() == []


async def test_a_connection_that_is_cut_while_the_action_is_looked_up_costs_no_attempt(world: World) -> None:
    async with stage(world, numbers(3)) as it, world.another() as other:
        locked = other.tx.transaction()
        await locked.start()
        await other.tx.execute("LOCK TABLE action")
        async with asyncio.TaskGroup() as group:
            planning_it = group.create_task(it.run())
            await eventually(lambda: other.tx.fetchval(CUT_WHO_WAITS))
            await locked.rollback()
        assert planning_it.result().result == {"partitions": 3}
        assert await it.keys() == ["1", "2", "3"]


async def test_what_a_restart_chose_is_made_again_with_the_same_parameters_whatever_is_cut_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = store.superseded
    cut: list[int] = []

    async def cut_once(tx: Tx, *of: Any) -> list[asyncpg.Record]:  # noqa: ANN401 - as it is called
        if not cut:
            cut.append(await tx.fetchval("SELECT pg_backend_pid()"))
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await read(tx, *of)

    monkeypatch.setattr(store, "superseded", cut_once)
    run = {"action": "job", "params": {"n": "{{ item }}"}}
    async with stage(world, numbers(25), run=run) as it:
        await it.run()
        await finish(world, it.plan, "completed")
        await world.limit(f"batch:{it.batch}", None)
        chosen = {child_id(it.batch, 1, str(n)) for n in range(1, 26, 2)}
        for n in range(1, 26):
            identity = child_id(it.batch, 1, str(n))
            await end(world, identity, target="failed" if identity in chosen else "completed")
        await drives(world, it.batch)
        assert await status(world, it.batch) == "partial"
        assert await restarts(world, it.batch) == len(chosen)
        assert await counts(world, it.batch) == {"total": 12, "completed": 12}
        it.plan = child_id(it.batch, 2, "$plan")
        assert it.plan in await claim(world, it.plan)
        assert (await it.run()).result == {"partitions": 13}
        assert len(cut) == 1
        assert await counts(world, it.batch) == {"total": 25, "completed": 12}
        rows = await world.tx.fetch(
            "SELECT o.superseded_by, n.id, n.child_key, n.params::text AS params, o.params::text AS before, n.epoch"
            " FROM execution o JOIN execution n ON n.id = o.superseded_by WHERE o.parent_id = $1",
            it.batch,
        )
        assert len(rows) == len(chosen)
        assert all(row["params"] == row["before"] and row["epoch"] == 2 for row in rows)
        await finish(world, it.plan, "completed")
        for row in rows:
            await end(world, row["id"])
        await drives(world, it.batch)
        assert await status(world, it.batch) == "completed"
        assert await counts(world, it.batch) == {"total": 25, "completed": 25}


async def restarts(world: World, batch: UUID) -> int:
    async with Client.connect(world.url) as client:
        return await client.batches.restart(batch)
