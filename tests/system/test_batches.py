"""Batches in a real deployment: they end once and on true counts, whoever dies and whatever is lost or repeated."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from interlock.client import Client
from interlock.client.batch_records import Choice, Replanned
from interlock.client.doctor import examine
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.eventually import eventually
from tests.system.deployment import ids_of

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from tests.system.deployment import Deployment
    from tests.system.gate import Gate

NOTHING: Final = "tests.system.actions:nothing"
WAIT: Final = "tests.system.actions:wait_at_gate"
PARTITIONS: Final = 200
FAILED: Final = Choice(statuses=(Status.FAILED,))
SHORT_LEASE: Final = {"LEASE": "8", "RENEW": "1", "GUARDIAN": "3"}


def plan(last: int) -> dict[str, Any]:
    return {"range": {"from": 1, "to": last, "step": 1}}


async def counts(deployment: Deployment, batch: UUID) -> dict[str, int]:
    """The counters of a batch that are not zero."""
    row = await deployment.connection.fetchrow("SELECT * FROM batch WHERE execution_id = $1", batch)
    assert row is not None
    names = ("total", "completed", "partial", "failed", "timed_out", "cancelled", "abandoned", "skipped")
    return {name: row[name] for name in names if row[name]}


async def violations(deployment: Deployment) -> list[Any]:
    async with deployment.connection.transaction():
        examined = await examine(deployment.connection)
    return [verdict for verdict in examined.invariants if verdict.count]


async def test_a_batch_ends_once_on_true_counts_though_a_worker_is_killed_on_the_way(deployment: Deployment) -> None:
    await deployment.register("part", function=NOTHING)
    _, worker = await asyncio.gather(deployment.executors(), deployment.worker(CONCURRENCY="4", **SHORT_LEASE))
    await deployment.worker(CONCURRENCY="4", **SHORT_LEASE)
    heard = await deployment.subscribe("completions")
    definition = {"run": {"action": "part", "params": {"n": "{{ item }}"}}, "partition": plan(PARTITIONS)}
    (batch,) = await deployment.ask([{"action": "cut", "definition": definition}])

    async def on_the_way() -> bool:
        return 20 < (await counts(deployment, batch)).get("completed", 0) < PARTITIONS

    await eventually(on_the_way)
    deployment.kill(worker)
    await deployment.until(batch, "completed", timeout=60)
    assert await counts(deployment, batch) == {"total": PARTITIONS, "completed": PARTITIONS}

    async def all_heard() -> bool:
        return len(ids_of(heard)) == PARTITIONS + 2  # the planning and the batch itself

    await eventually(all_heard)
    # At least once each, since a publisher died: under one id.
    assert len({event["id"] for event in heard}) == PARTITIONS + 2
    await deployment.until_clean(timeout=40)
    assert await violations(deployment) == []


async def test_a_batch_of_which_no_executor_heard_anything_ends_all_the_same(deployment: Deployment) -> None:
    await deployment.register("part", function=NOTHING)
    executor, _, _ = await deployment.trio()
    (batch,) = await deployment.ask([{"action": "cut", "definition": {"run": {"action": "part"}, "sealed": False}}])
    await deployment.until(batch, "running")

    async def handled() -> float:
        told = {"type": "execution.status_changed", "outcome": "processed"}
        return await deployment.metric("executor", "interlock_messages_total", **told)

    await eventually(handled)
    # A hint that is lost: the seal's own. The reconciler looks at what nobody told.
    await deployment.connection.execute(
        "UPDATE batch SET sealed_at = now() WHERE execution_id = $1 AND sealed_at IS NULL", batch
    )
    await deployment.until(batch, "completed")
    assert executor.child.exit_code is None

    async def counted() -> bool:
        return await deployment.metric("executor", "interlock_repairs_total", kind="batch") == 1

    await eventually(counted)


async def test_a_planner_is_cut_off_and_tried_again_as_its_own_action_says(deployment: Deployment) -> None:
    await deployment.register("part", function=NOTHING)
    slow_at_first = 'test "$INTERLOCK_ATTEMPT" -gt 1 || exec sleep 60; seq 3'
    retry = {"max_attempts": 2, "delay": "100ms"}
    deaf = ["sh", "-c", f'trap "" TERM; {slow_at_first}']
    await deployment.register("lists", command=deaf, timeout={"run": "1s"}, grace="100ms", retry=retry)
    await deployment.register("lists-once", command=["sh", "-c", slow_at_first], timeout={"run": "1s"})
    await deployment.trio()
    asked = [{"run": {"action": "part"}, "partition": {"action": planner}} for planner in ("lists", "lists-once")]
    batches = await deployment.ask([{"action": "cut", "definition": definition} for definition in asked])
    for batch, end in zip(batches, ("completed", "failed"), strict=True):
        await deployment.until(batch, end)
    assert [await counts(deployment, batch) for batch in batches] == [{"total": 3, "completed": 3}, {}]
    plan = child_id(batches[0], 1, "$plan")
    took = "SELECT finished_at - started_at FROM execution_attempt WHERE execution_id = $1 AND attempt = 1"
    # Without a grace of its own it would have been killed after the 10 s that are the default.
    assert timedelta(seconds=1) < await deployment.connection.fetchval(took, plan) < timedelta(seconds=10)
    row = await deployment.row(batches[1])
    assert "planning failed: the attempt ran longer than 1 s" in row["error"]


async def test_a_batch_is_planned_anew_by_a_worker_that_dies_and_restarted_with_what_was_looked_at(
    deployment: Deployment, tmp_path: Path
) -> None:
    listed, refused = tmp_path / "listed", tmp_path / "refused"
    listed.write_text("1\n2\n3\n")
    refused.write_text("2\n")
    await deployment.register("lists", command=["cat", str(listed)])
    await deployment.register("part", command=["sh", "-c", '! grep -qx "$1" "$0"', str(refused), "{{ params.n }}"])
    _, worker = await asyncio.gather(deployment.executors(), deployment.worker(**SHORT_LEASE))
    part = {"action": "part", "params": {"n": "{{ item }}"}}
    (batch,) = await deployment.ask([{"action": "cut", "definition": {"run": part, "partition": {"action": "lists"}}}])
    await deployment.until(batch, "partial")
    assert await counts(deployment, batch) == {"total": 3, "completed": 2, "failed": 1}
    listed.write_text("2\n3\n4\n")
    refused.write_text("")
    await deployment.stop(worker)
    armed = await deployment.worker(**SHORT_LEASE, FAULTS="plan.committed=crash")
    async with Client.connect(deployment.endpoints.database_url) as client:
        anew = await client.batches.plan_anew(batch)
        await deployment.until(anew, "completed", timeout=60)
        difference = await client.batches.difference(batch, anew, FAILED)
        assert (difference.new.keys, difference.gone.keys, difference.again.keys) == (("4",), ("1",), ("2",))
        assert await client.batches.replan(batch, anew, FAILED) == Replanned(made=2, gone=1)
    await deployment.until(batch, "completed", timeout=60)
    assert await counts(deployment, batch) == {"total": 3, "completed": 3}
    assert [line for line in deployment.lines(armed) if line["event"] == "fault"] != []
    assert await violations(deployment) == []


async def test_a_single_run_behind_a_long_batch_begins_at_once(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("held", function=WAIT)
    await deployment.register("single", function=NOTHING)
    await deployment.trio(CONCURRENCY="4")
    params = {"gate": str(gate.path)}
    definition = {"run": {"action": "held", "params": params}, "partition": plan(2_000), "max_parallel": 3}
    (batch,) = await deployment.ask([{"action": "cut", "definition": definition}])

    async def planned() -> bool:
        return (await counts(deployment, batch)).get("total") == 2_000

    await eventually(planned)
    (single,) = await deployment.submit("single")
    row = await deployment.until(single, "completed")
    assert (row["started_at"] - row["requested_at"]).total_seconds() < 1
    await deployment.cancel(batch)
    await deployment.until(batch, "cancelled", timeout=30)
    assert (await counts(deployment, batch)) == {"total": 2_000, "cancelled": 2_000}
    assert json.loads((await deployment.row(batch))["result"])["cancelled"] == 2_000
    await deployment.until_clean(timeout=30)
