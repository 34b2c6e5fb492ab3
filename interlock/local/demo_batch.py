"""`interlock demo --batch`: the batch `bi-date-update` on generated orders, with a worker killed while it writes.

Runs the definitions in `examples/batches` and the function beside them; what comes out is held against a direct query.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from interlock.actions import files as definitions
from interlock.adapters.postgres import mapped_errors
from interlock.client import Client
from interlock.contract.errors import Unavailable
from interlock.contract.status import TERMINAL
from interlock.local.demo_batch_report import FIRST_DAY, BatchFigures
from interlock.local.demo_measures import broken
from interlock.local.demo_progress import view
from interlock.local.demo_report import Outcome, loud_lines
from interlock.local.demo_stage import SQL, staged
from interlock.local.stack import Stack, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from interlock.client.batch_records import BatchState
    from interlock.client.doctor import Examination
    from interlock.local.demo_batch_report import Batch
    from interlock.local.demo_stage import Stage

NAME: Final = "bi-date-update"
ACTION: Final = "bi.user-day"
KILL_AT: Final = 1 / 3
"""The share of all partitions that has ended when a worker is killed."""
JOB_SECONDS: Final = 200.0
HOLD_SECONDS: Final = 20.0
"""Until some worker is about to keep a total."""
SETTLE_SECONDS: Final = 30.0
"""From the end of the batch until every slot came back."""
PERIOD: Final = 0.2
# Readers are not held up, and whoever is about to keep a total waits for it.
TOTALS: Final = "demo.daily_total"
HOLD_WRITERS: Final = f"LOCK TABLE {TOTALS} IN SHARE ROW EXCLUSIVE MODE"


@dataclass(slots=True)
class _Scene:
    """What is shown: how far the batch is, and the workers."""

    state: BatchState | None = None
    phase: str = "starting"
    workers: Mapping[str, str] = field(default_factory=dict)

    @property
    def done(self) -> dict[str, int]:
        return {NAME: 0 if self.state is None else self.state.processed}

    @property
    def total(self) -> dict[str, int]:
        return {NAME: 0 if self.state is None else self.state.made}

    @property
    def summary(self) -> str:
        workers = ", ".join(f"{name} {state}" for name, state in self.workers.items())
        if self.state is None:
            return f"{self.phase} · {workers}"
        rate = "" if self.state.rate is None else f", {self.state.rate:.0f}/s"
        left = "" if self.state.eta_seconds is None else f", {self.state.eta_seconds:.0f} s left"
        counts = f"{self.state.completed} completed, {self.state.skipped} skipped, {self.state.running} running"
        return f"{self.phase} · {workers} · {self.state.percent} %: {counts}{rate}{left}"


class BatchDemonstration:
    """One run, from the empty stage to the outcome."""

    def __init__(self, stack: Stack, checkout: Path, batch: Batch) -> None:
        self._stack = stack
        self._checkout = checkout
        self._batch = batch
        self._scene = _Scene()

    async def run(self) -> Outcome:
        """Set the stage, run the batch, let everything come to rest, measure."""
        async with staged(self._stack, self._checkout) as stage, Client.connect(stage.database_url) as client:
            await self._make_orders(stage)
            examples = self._checkout / "examples" / "batches"
            await client.apply_actions(found.content for found in definitions.load(examples))
            began = monotonic()
            try:
                async with asyncio.TaskGroup() as tasks:
                    identity = await self._start(client)
                    beside = [tasks.create_task(stage.watch()), tasks.create_task(self._show(stage, client, identity))]
                    await self._perform(stage, client, identity)
                    seconds = monotonic() - began
                    await self._settle(stage)
                    for task in beside:
                        task.cancel()
            except ExceptionGroup as failed:
                # One of them failed and the others were cancelled for it: the user is helped by the first cause.
                raise failed.exceptions[0] from None
            # What the daemons say about their end counts as well.
            await stage.daemons.stop()
            return await self._measure(stage, client, identity, seconds)

    async def _make_orders(self, stage: Stage) -> None:
        with mapped_errors():
            await stage.pool.execute(self._example("bi_tables"))
            await stage.pool.execute(self._example("bi_orders"), self._batch.names, FIRST_DAY, self._batch.last_day)

    def _example(self, name: str) -> str:
        """Return a statement of the example: what it works on is not ours."""
        return (self._checkout / "examples" / "sql" / f"{name}.sql").read_text(encoding="utf-8")

    async def _start(self, client: Client) -> UUID:
        params = {"users": self._batch.names, "first": str(FIRST_DAY), "last": str(self._batch.last_day)}
        (answer,) = await client.submit([{"action": NAME, "params": params}])
        if answer.id is None or answer.refused is not None:
            raise Unavailable(f"the batch was not accepted: {answer.error or answer.refused}")
        return answer.id

    async def _perform(self, stage: Stage, client: Client, identity: UUID) -> None:
        """Let the batch run and kill a worker on the way. What is open after JOB_SECONDS is left to the verdict."""
        self._scene.phase = "running"
        try:
            async with asyncio.timeout(JOB_SECONDS):
                await _until(client, identity, lambda state: state.processed >= self._batch.partitions * KILL_AT)
                await self._kill_one(stage)
                await _until(client, identity, lambda state: state.status in TERMINAL)
        except TimeoutError:
            say(f"not done after {JOB_SECONDS:g} s: giving up")

    async def _kill_one(self, stage: Stage) -> None:
        """Kill the worker that is about to keep the most totals: they wait for a lock of ours while it dies."""
        deadline = monotonic() + HOLD_SECONDS
        with mapped_errors():
            async with stage.pool.acquire() as connection, connection.transaction():
                await connection.execute(HOLD_WRITERS)
                while not (halted := await stage.pool.fetch(SQL["halted"], ACTION, TOTALS)):
                    if monotonic() > deadline:
                        raise Unavailable(f"no worker ran {ACTION} within {HOLD_SECONDS:g} s")
                    await asyncio.sleep(PERIOD)
                worker, held = halted[0]["worker_id"], halted[0]["held"]
                daemon = await stage.kill(worker)
        say(f"{daemon.name} is killed, with {held} totals half written")

    async def _settle(self, stage: Stage) -> None:
        """Wait until every message was handled and every slot came back."""
        self._scene.phase = "settling"
        deadline = monotonic() + SETTLE_SECONDS
        while monotonic() < deadline:
            if not await stage.ground.waiting() and not await stage.value("slots_held"):
                return
            await asyncio.sleep(PERIOD)

    async def _show(self, stage: Stage, client: Client, identity: UUID) -> None:
        """Show what goes on, until cancelled."""
        with view() as shown:
            while True:
                self._scene.state = await client.batches.get(identity)
                self._scene.workers = stage.standing()
                shown.show(self._scene)
                await asyncio.sleep(PERIOD)

    async def _measure(self, stage: Stage, client: Client, identity: UUID, seconds: float) -> Outcome:
        """Measure everything, with the daemons stopped."""
        state = await client.batches.get(identity)
        examination = await client.examine()
        with mapped_errors():
            wrong = await stage.pool.fetch(self._example("bi_wrong_totals"), identity)
            recount = await stage.pool.fetchrow(SQL["batch_recount"], identity, self._batch.partitions)
        if recount is None:
            raise Unavailable(f"the row of batch {identity} has gone")
        figures = BatchFigures(
            partitions=state.made,
            status=str(state.status),
            completed=state.completed,
            skipped=state.skipped,
            failed=state.processed - state.completed - state.skipped,
            wrong_totals=len(wrong),
            counter_drift=recount["drift"],
            lost=recount["lost"],
            doctor_violations=examination.violations,
            seconds=round(seconds, 1),
        )
        loud = loud_lines(daemon.log for daemon in stage.daemons.executors)
        complaints = [f"an executor said: {line}" for line in loud] + broken(examination)
        complaints += [f"wrong total: {row['subject']}: {row['detail']}" for row in wrong]
        if not recount["taken_over"]:
            complaints.append("a worker was killed, and nothing had to be taken over from it")
        proof = _proof(figures, examination, [each.name for each in stage.killed], recount["taken_over"])
        return Outcome(figures=figures, complaints=tuple(complaints), proof=proof)


async def _until(client: Client, identity: UUID, has_come_to: Callable[[BatchState], bool]) -> None:
    while True:
        if has_come_to(await client.batches.get(identity)):
            return
        await asyncio.sleep(PERIOD)


def _proof(figures: BatchFigures, examination: Examination, killed: list[str], taken_over: int) -> str:
    return (
        f"{figures.partitions} partitions: {figures.completed} totals, each as a direct query finds it, and "
        f"{figures.skipped} days without orders, although {' and '.join(killed)} was killed ({taken_over} partitions "
        "were taken over from it). The counters are those of the rows.\n"
        f"doctor: {len(examination.invariants)} checks on the invariants, {examination.violations} violations."
    )
