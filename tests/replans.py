"""A batch whose plan can be made anew, by the product's own planner: for tests of restarting with another plan."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from interlock.acceptance.catalog import Catalog
from interlock.adapters.postgres import open_pool
from interlock.client.client import Client
from interlock.contract.errors import Refused
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.batches import drives, end
from tests.world import request
from worker.holdings import Holding
from worker.outcome import Outcome, failed, settle
from worker.planning import Planner
from worker.plans import PlanFailed
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from interlock.acceptance.entries import Entry
    from interlock.client.batch_replans import Replans
    from tests.world import World


class Stage:
    """A batch whose partitions an action names, the worker that plans it, and a client."""

    def __init__(self, world: World, planner: Planner, batch: UUID, client: Client) -> None:
        self.world = world
        self.planner = planner
        self.batch = batch
        self.client: Replans = client.batches
        self.plan: list[Any] = []
        self.outcome: Outcome | None = None

    async def plans(self, identity: UUID, attempt: int = 1) -> Outcome:
        """Plan in a worker, and end that execution as it went."""
        assert identity in await claim(self.world, identity, attempt=attempt)
        outcome = await self.attempt(identity, attempt)
        problem = outcome.failure
        told = problem and json.dumps({"class": problem.error_class, "message": problem.message})
        target = str(outcome.status)
        assert await finish(self.world, identity, target, attempt=attempt, error=told) == target
        return outcome

    async def attempt(self, identity: UUID, attempt: int = 1) -> Outcome:
        """One attempt to plan, as a worker makes it."""
        holding = Holding(id=identity, attempt=attempt, started_at=datetime.now(UTC))
        try:
            return await self.planner.run(holding, LogSink(lambda _entry: None), self._run_action)
        except PlanFailed as failure:
            return failure.outcome
        except Refused as refused:
            return failed(refused.code, str(refused))

    async def _run_action(self, entry: Entry, params: dict[str, Any], holding: Holding, sink: LogSink) -> Outcome:
        del entry, params, holding
        for item in self.plan:
            sink.write("stdout", json.dumps(item))
        return self.outcome or settle(None)

    async def ended(self, plan: list[Any], **ends: str) -> None:
        """Let the first epoch plan this and end so; what is not named completes."""
        self.plan = plan
        assert (await self.plans(child_id(self.batch, 1, "$plan"))).status is Status.COMPLETED
        await self.world.limit(f"batch:{self.batch}", None)
        for key, identity in (await self.present()).items():
            await end(self.world, identity, target=ends.get(key, "completed"))
        await drives(self.world, self.batch)

    async def present(self) -> dict[str, UUID]:
        """The partitions that count, by their keys."""
        rows = await self.world.tx.fetch(
            "SELECT child_key, id FROM execution"
            " WHERE parent_id = $1 AND child_key <> '$plan' AND superseded_by IS NULL ORDER BY id",
            self.batch,
        )
        return {row["child_key"]: row["id"] for row in rows}

    async def looked_at(self, plan: list[Any]) -> UUID:
        """Plan anew, to look at it."""
        self.plan = plan
        preview = await self.client.plan_anew(self.batch)
        assert (await self.plans(preview)).status is Status.COMPLETED
        return preview

    async def rows(self) -> tuple[list[asyncpg.Record], ...]:
        """All that a batch is, to see that it did not change."""
        tx, batch = self.world.tx, self.batch
        return (
            await tx.fetch("SELECT * FROM batch WHERE execution_id = $1", batch),
            await tx.fetch("SELECT * FROM execution WHERE id = $1 OR parent_id = $1 ORDER BY id", batch),
            await tx.fetch("SELECT * FROM execution_transition WHERE execution_id = $1 ORDER BY move", batch),
        )

    async def broken(self) -> list[str]:
        """What `interlock doctor` says of invariant 5."""
        async with Client.connect(self.world.url) as client:
            verdicts = (await client.examine()).invariants
        return [str(verdict) for verdict in verdicts if verdict.invariant == "I5" and verdict.count]


@asynccontextmanager
async def stage(world: World, **definition: Any) -> AsyncIterator[Stage]:  # noqa: ANN401 - of a Batch
    """Accept a batch whose partitions an action names, with a worker to plan it."""
    given = {"run": {"action": "job", "params": {"item": "{{ item }}"}}, "partition": {"action": "job"}, **definition}
    wanted = request("cut", definition=given)
    (answer,) = (await world.accept(wanted)).answers
    assert answer.refused is None, answer.refused
    pool = await open_pool(world.url, application="test", size=2)
    try:
        async with Client.connect(world.url) as client:
            planner = Planner(world.hand, pool=pool, catalog=Catalog())
            yield Stage(world, planner, UUID(wanted["id"]), client)
    finally:
        pool.terminate()
