"""Any order of adding, sealing, claims, ends, losses, cancels and restarts, by two executors: counts are rows."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from executor import batch_store
from interlock.acceptance.catalog import Catalog
from interlock.adapters.postgres import open_pool
from interlock.client.batch_records import Choice
from interlock.client.batches import Batches, NotOpen, NotRestartable
from interlock.client.store import SQL
from interlock.contract.status import Status
from tests import attempts
from tests.batches import COUNTS, drives
from tests.long import LONG
from tests.world import ACTOR, World, fresh_id, opened, request
from worker.holdings import Holding
from worker.planning import Planner
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    import asyncpg

    from worker.outcome import Outcome

T = TypeVar("T")
PROFILE = settings(
    max_examples=100 if LONG else 8,
    stateful_step_count=40,
    # Making a failure small takes minutes on a database, and would end in the time limit without a word.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
OPEN = ("requested", "scheduled", "running", "cancelling")
ENDS = ("completed", "completed", "completed", "partial", "failed", "timed_out", "skipped")
MOST_PARTITIONS = 30
MOST_ROUNDS = 60
which = st.integers(0, 10**6)
seldom = st.sampled_from((False, False, False, False, False, True))
"""Of what leaves little to do, or nothing."""
# A restart takes what did not complete, or everything: then a batch whose partitions all completed can be made again.
choices = st.sampled_from(((Status.FAILED, Status.PARTIAL, Status.CANCELLED, Status.ABANDONED), tuple(Status)))
OVER_WITH_SOMETHING_OPEN = """
SELECT b.execution_id, e.child_key, e.status::text
FROM batch b JOIN execution p ON p.id = b.execution_id JOIN execution e ON e.parent_id = b.execution_id
WHERE (is_terminal(p.status) OR b.ended_at IS NOT NULL) AND NOT is_terminal(e.status)
"""
ENDED_OFTEN = """
SELECT execution_id, epoch FROM execution_transition
WHERE execution_id IN (SELECT execution_id FROM batch) AND is_terminal(target)
GROUP BY execution_id, epoch HAVING count(*) > 1
"""


class BatchesUnderWay(RuleBasedStateMachine):
    """Two executors with a connection each, a client, a worker, and two batches: one that is planned, and one open."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.executors = [self.wait(self.stack.enter_async_context(opened(url))) for _ in range(2)]
        self.wait(self.executors[0].empty())
        self.wait(self.executor().register())
        self.hand = self.wait(self.executor().worker(capacity=10))
        for each in self.executors:
            each.hand = self.hand
        self.pool = self.wait(open_pool(url, application="test", size=2))
        self.client = Batches(self.pool, "/client/test")
        self.planner = Planner(self.hand, pool=self.pool, catalog=Catalog())
        self.batches: list[UUID] = []
        self.added = 0

    def executor(self) -> World:
        """Take turns: return the executor that has not acted last."""
        self.executors.reverse()
        return self.executors[0]

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing on the machine's own loop."""
        return self.runner.run(work)

    def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return self.wait(self.executor().tx.fetch(sql, *arguments))

    def those(self, *statuses: str, plan: bool = False) -> list[tuple[UUID, int]]:
        """The children at these statuses, and their attempts: partitions, or what plans."""
        rows = self.fetch(
            "SELECT id, attempt FROM execution WHERE parent_id IS NOT NULL AND (child_key = '$plan') = $2"
            " AND status = ANY($1::text[]::status[]) ORDER BY id",
            list(statuses),
            plan,
        )
        return [(row["id"], row["attempt"]) for row in rows]

    def one(self, number: int, *statuses: str) -> tuple[UUID, int] | None:
        found = self.those(*statuses)
        return found[number % len(found)] if found else None

    def batch(self, number: int) -> UUID:
        return self.batches[number % len(self.batches)]

    def stands(self, identity: UUID) -> str:
        (found,) = self.wait(self.executor().statuses([identity]))
        return found

    @initialize(
        planned=st.sampled_from((3, 5, 2, 0)),
        max_parallel=st.sampled_from((None, 1, 3)),
        fail_fast=st.sampled_from((None, None, 2)),
        often=st.sampled_from((1, 2)),
        whole=st.sampled_from((True, True, False)),
    )
    def start(self, planned: int, max_parallel: int | None, fail_fast: int | None, often: int, *, whole: bool) -> None:
        common: dict[str, Any] = {
            "run": {"action": "job", "params": {}},
            "max_parallel": max_parallel,
            "fail_fast": fail_fast,
            "retry": {"max_attempts": often},
        }
        items = [f"p{number}" for number in range(planned)]
        for definition in ({"partition": {"items": items}}, {"sealed": False}):
            wanted = request("cut", definition={**common, **definition})
            (answer,) = self.wait(self.executor().accept(wanted)).answers
            assert answer.id is not None, answer
            assert answer.refused is None, answer
            self.batches.append(answer.id)
        self.plan(whole=whole)
        self.add(1, 3, again=False)

    @precondition(lambda self: self.added < MOST_PARTITIONS)
    @rule(number=which, count=st.integers(1, 3), again=st.booleans())
    def add(self, number: int, count: int, *, again: bool) -> None:
        first = max(0, self.added - 1) if again else self.added
        keys = [f"added-{n}" for n in range(first, first + count)]
        try:
            self.wait(self.client.add(self.batch(number), keys))
            self.added += count
        except NotOpen:
            assert self.fetch(
                "SELECT 1 FROM batch b JOIN execution e ON e.id = b.execution_id WHERE b.execution_id = $1"
                " AND (b.sealed_at IS NOT NULL OR b.planned_at IS NULL OR e.status <> 'running')",
                self.batch(number),
            )

    @rule(number=which, really=seldom)
    def seal(self, number: int, *, really: bool) -> None:
        if not really:
            return
        self.sealed(self.batch(number))
        assert not self.sealed(self.batch(number))

    def sealed(self, identity: UUID) -> bool:
        """Seal a batch; False where that is done, or its plan is not made, which the client says."""
        try:
            return self.wait(self.client.seal(identity))
        except NotOpen:
            assert self.fetch("SELECT FROM batch WHERE execution_id = $1 AND planned_at IS NULL", identity)
            return False

    @rule(number=which)
    def claim(self, number: int) -> None:
        if found := self.one(number, "scheduled"):
            identity, attempt = found
            runs = self.fetch(
                "SELECT 1 FROM execution e JOIN execution p ON p.id = e.parent_id"
                " WHERE e.id = $1 AND p.status = 'running'",
                identity,
            )
            claimed = self.wait(attempts.claim(self.executor(), identity, attempt=attempt))
            assert (identity in claimed) == bool(runs), "what no longer runs hands out nothing, and what runs does"

    @rule(number=which, outcome=st.sampled_from((*ENDS, "requested")), count=st.integers(1, 4), told=st.booleans())
    def finish(self, number: int, outcome: str, count: int, *, told: bool) -> None:
        """Some end; an executor hears of them now, or later."""
        for _ in range(count):
            if found := self.one(number, "running"):
                self.end(*found, outcome)
                if told:
                    self.hear([found[0]])
            elif found := self.one(number, "cancelling"):
                self.end(*found, "cancelled")

    @rule(number=which)
    def finish_late(self, number: int) -> None:
        """An attempt that is no more reports its end."""
        if found := self.one(number, "running", "requested", "scheduled", "completed", "failed", "cancelled"):
            identity, attempt = found
            before = self.stands(identity)
            assert self.wait(attempts.finish(self.executor(), identity, "completed", attempt=attempt - 1)) is None
            assert self.stands(identity) == before

    def end(self, identity: UUID, attempt: int, outcome: str) -> None:
        fields: dict[str, Any] = {"attempt": attempt}
        if outcome == "requested":
            fields["outcome"] = "failed"
        assert self.wait(attempts.finish(self.executor(), identity, outcome, **fields)) == outcome

    def hear(self, ids: list[UUID]) -> None:
        """Do what an executor does that is told of children: release, enter again, drive their batches."""
        self.wait(self.executor().admit(ended=ids, entering=ids))
        self.wait(drives(self.executor(), *self.batches))

    @rule(number=which, outcome=st.sampled_from(("requested", "abandoned")))
    def lose(self, number: int, outcome: str) -> None:
        """The lease of whoever runs it has ended: an executor decides."""
        if found := self.one(number, "running", "cancelling"):
            identity, attempt = found
            gone = fresh_id()
            self.fetch(
                "INSERT INTO worker (id, pool, capacity, host, pid, lease_expires_at)"
                " VALUES ($1, 'gone', 1, 'test', 1, now() - interval '1 hour')",
                gone,
            )
            self.fetch("UPDATE execution SET worker_id = $2 WHERE id = $1", identity, gone)
            self.fetch("UPDATE in_flight SET worker_id = $2 WHERE execution_id = $1", identity, gone)
            target = "cancelled" if self.stands(identity) == "cancelling" else outcome
            self.wait(self.executor().admit(decide={identity: target}, attempt=attempt, reason="worker lost"))
            # What goes back may have been let in again by the same call.
            assert self.stands(identity) in (("requested", "scheduled") if target == "requested" else (target,))

    @rule(number=which, drain=st.booleans(), really=seldom)
    def cancel(self, number: int, *, drain: bool, really: bool) -> None:
        if not really:
            return
        identity = self.batch(number)
        before = self.stands(identity)
        did = self.wait(self.client.cancel(identity, drain=drain))
        assert did == (before == "running")

    @rule(count=st.integers(1, 4), outcome=st.sampled_from(ENDS), seal=st.booleans())
    def work(self, count: int, outcome: str, *, seal: bool) -> None:
        """Do what runs in good weather: partitions end and are told; and at some time no more come."""
        if seal:
            for identity in self.batches:
                self.sealed(identity)
        for _ in range(count):
            for identity, attempt in self.those("scheduled")[:1]:
                if identity in self.wait(attempts.claim(self.executor(), identity, attempt=attempt)):
                    self.end(identity, attempt, outcome)
                    self.hear([identity])

    @rule(number=which)
    def cancel_a_partition(self, number: int) -> None:
        if found := self.one(number, *OPEN):
            self.wait(self.executor().admit(decide={found[0]: "cancelled"}))

    @rule(number=which, statuses=choices)
    def restart(self, number: int, statuses: tuple[Status, ...]) -> None:
        identity = self.batch(number)
        before = self.stands(identity)
        choice = Choice(statuses=statuses)
        try:
            assert self.wait(self.client.restart(identity, choice)) > 0
        except NotRestartable:
            assert self.stands(identity) == before
        else:
            assert before not in OPEN
            assert self.stands(identity) == "running"

    @rule(whole=st.booleans())
    def plan(self, *, whole: bool) -> None:
        """A worker plans what is to be planned; or is lost with it, and another attempt does."""
        for identity, attempt in self.those("scheduled", plan=True):
            if identity not in self.wait(attempts.claim(self.executor(), identity, attempt=attempt)):
                continue
            outcome = self.wait(self.planned(identity, attempt))
            target = str(outcome.status) if whole else "requested"
            error = {"error": '{"class": "PlanFailed", "message": "no"}'} if target == "failed" else {}
            self.wait(
                attempts.finish(
                    self.executor(), identity, target, attempt=attempt, outcome=target if whole else "failed", **error
                )
            )
        for identity, attempt in self.those("running", "cancelling", plan=True):
            target = "cancelled" if self.stands(identity) == "cancelling" else "completed"
            self.end(identity, attempt, target)

    async def planned(self, identity: UUID, attempt: int) -> Outcome:
        holding = Holding(id=identity, attempt=attempt, started_at=datetime.now(UTC))
        return await self.planner.run(holding, LogSink(lambda _entry: None), no_planner)

    @rule(numbers=st.lists(which, max_size=6))
    def drive(self, numbers: list[int]) -> None:
        """Hints about batches: repeated, in any order, by both executors."""
        for number in numbers:
            self.wait(drives(self.executor(), self.batch(number)))

    @rule(number=which)
    def drive_twice_at_once(self, number: int) -> None:
        async def both() -> int:
            found = await asyncio.gather(*(drives(each, self.batch(number)) for each in self.executors))
            return sum(len(each.ended) for each in found)

        assert self.wait(both()) <= 1

    @rule()
    def forge_an_end(self) -> None:
        """Somebody who judged too early: the statement itself counts."""
        for identity in self.batches:
            (row,) = self.fetch(
                "SELECT b.*, processed(b) = total AS whole FROM batch b WHERE execution_id = $1", identity
            )
            if not row["whole"]:
                forged = batch_store.BatchEnd(
                    id=identity, epoch=row["epoch"], target=Status.COMPLETED, result="{}", error=None, reason=None
                )
                assert self.wait(batch_store.end_batches(self.executor().tx, [forged], ACTOR)) == ([], [])

    @rule()
    def reconcile(self) -> None:
        """What heals everything that nobody was told."""
        every = "SELECT id FROM execution WHERE parent_id IS NOT NULL"
        self.fetch("UPDATE execution SET not_before = now() WHERE status = 'requested' AND not_before > now()")
        self.hear([row["id"] for row in self.fetch(every)])

    @invariant()
    def counts_are_rows_and_nothing_open_is_in_what_has_ended(self) -> None:
        assert self.fetch(SQL["counts_are_rows"]) == []
        assert self.fetch(OVER_WITH_SOMETHING_OPEN) == []
        assert self.fetch(ENDED_OFTEN) == []
        self.wait(self.executor().audit())

    def teardown(self) -> None:
        """Let everything run: each batch comes to its end, and nothing is left behind."""
        try:
            if self.batches:
                self.run_dry()
                for identity in self.batches:
                    if self.fetch("SELECT 1 FROM batch WHERE execution_id = $1 AND planned_at IS NOT NULL", identity):
                        self.restart_everything(identity)
                self.run_dry()
        finally:
            self.wait(self.pool.close())
            self.wait(self.stack.aclose())
            self.runner.close()

    def restart_everything(self, identity: UUID) -> None:
        (row,) = self.fetch("SELECT total FROM batch WHERE execution_id = $1", identity)
        if row["total"]:
            assert self.wait(self.client.restart(identity, Choice(statuses=tuple(Status)))) == row["total"]
            self.counts_are_rows_and_nothing_open_is_in_what_has_ended()

    def run_dry(self) -> None:
        for _ in range(MOST_ROUNDS):
            self.plan(whole=True)
            for identity in self.batches:
                self.sealed(identity)
            for identity, attempt in self.those("scheduled"):
                self.wait(attempts.claim(self.executor(), identity, attempt=attempt))
            for identity, attempt in self.those("running"):
                self.end(identity, attempt, "completed")
            for identity, attempt in self.those("cancelling"):
                self.end(identity, attempt, "cancelled")
            self.reconcile()
            if not self.fetch("SELECT 1 FROM batch WHERE ended_at IS NULL"):
                break
        still = self.fetch("SELECT e.id, e.status::text, b.* FROM batch b JOIN execution e ON e.id = b.execution_id")
        assert [row for row in still if row["ended_at"] is None] == []
        assert self.those(*OPEN) == self.those(*OPEN, plan=True) == []
        for row in still:
            assert sum(row[name] for name in COUNTS) == row["total"]
        self.counts_are_rows_and_nothing_open_is_in_what_has_ended()


async def no_planner(*_: object) -> Outcome:
    raise AssertionError("no batch here is planned by an action")


def test_no_order_of_events_makes_a_batch_count_wrongly_or_forget_its_end(stage_url: str) -> None:
    class OnThisStage(BatchesUnderWay):
        def __init__(self) -> None:
            super().__init__(stage_url)

    run_state_machine_as_test(OnThisStage, settings=PROFILE)
