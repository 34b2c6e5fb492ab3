"""A stage for crashes: a deployment under a steady load, of which one executor and one worker at a time are armed.

Each flavour is a load with its own dangers. What a step needs to be reached at all is provoked. In the end the stage is
audited: everything ended once, was told once, within its limits and in its order.
"""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import aio_pika

from interlock.client import Client
from interlock.client.doctor import examine
from interlock.contract.faults import POINTS
from tests.eventually import eventually
from tests.system.history import inversions, most_at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path
    from uuid import UUID

    import asyncpg

    from interlock.local.daemons import Daemon, Role
    from tests.system.deployment import Deployment

NOTHING: Final = "tests.system.actions:nothing"
FUNCTIONS: Final = "tests.system.actions"
# For executors too: when many workers went at once, as here after a few crashes, they look again one lease later.
SHORT_LEASE: Final = {"LEASE": "8", "RENEW": "1"}
# Those that are armed look far more often than those that are not, so that what is to be healed is found by them.
STEADY_EXECUTOR: Final = {**SHORT_LEASE, "REAPER": "30", "RECONCILE": "30", "TIMERS": "2", "SWEEP": "1"}
EAGER_EXECUTOR: Final = {**SHORT_LEASE, "REAPER": "0.3", "RECONCILE": "0.3", "TIMERS": "0.05", "SWEEP": "0.05"}
STEADY_WORKER: Final = {"FUNCTIONS": FUNCTIONS, "CONCURRENCY": "16"}
EAGER_WORKER: Final = {
    **SHORT_LEASE,
    "GUARDIAN": "3",
    "FUNCTIONS": FUNCTIONS,
    "CONCURRENCY": "3",
    "SWEEP": "0.05",
    "DRAIN": "5",
}
EXTRA: Final = {"admission.committed": {"TIMERS": "5"}}
"""Settings of who is armed at a step that others would take away from it."""
REACH: Final = 60.0
"""Seconds within which an armed process must have come to its point."""
PROVOKE: Final = 0.5
"""Seconds between two provocations."""
ENOUGH: Final = 30
"""How many wait for one limited key when nothing more is asked for: that would only be more to wait for."""
OFTEN: Final = ("requests.", "status_changed.", "completed.", "claim.", "finish.", "execution.")
"""Steps that everything passes: a process dies at the third pass, in the middle of its work."""
MOST_LOSSES: Final = 3
AT_THE_END: Final = ("drain.told", "retire.flushed", "retire.committed")
"""Steps of a worker that ends."""
CAN_FAIL: Final = [
    point
    for point in POINTS
    if point.can_fail and point.process != "client" and point.name not in (*AT_THE_END, *EXTRA, "reaper.moved")
]
"""Where running daemons may fail without anybody's crash."""

ENDS: Final = """
SELECT id, status::text AS status, losses FROM execution WHERE id = ANY($1) AND finished_at IS NOT NULL
"""
MOST_WAITING: Final = "SELECT coalesce(max(waiting), 0) FROM queue WHERE lim IS NOT NULL"
ENDED_TWICE: Final = """
SELECT count(*) FROM (SELECT 1 FROM execution_transition WHERE is_terminal(target) GROUP BY execution_id, epoch
                      HAVING count(*) > 1) t
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A point that a process of this role shall crash at."""

    role: Role
    point: str

    @property
    def fault(self) -> str:
        """What arms it."""
        return f"{self.point}=crash@{3 if self.point.startswith(OFTEN) else 1}"


def all_steps(role: Role) -> list[Step]:
    """Return every step of a role, in the order of the table."""
    return [Step(role, point.name) for point in POINTS if point.process in (role, "both")]


class Stage:
    """One deployment with its load; `batch` makes the requests that are sent again and again."""

    def __init__(self, deployment: Deployment, flavour: Flavour, witness: Path) -> None:
        self.deployment = deployment
        self.asked: list[UUID] = []
        self.random = random.Random(4)  # noqa: S311 - a repeatable choice
        self.witness = witness
        self._flavour = flavour
        self.cancelled: set[UUID] = set()
        self.is_deaf = False
        self.victim: Daemon | None = None
        self._provoke_at = 0.0
        self._is_crowded = False
        self._enough = asyncio.Event()

    async def register(self) -> None:
        """Register the flavour's actions, and those that provoke."""
        for action, definition in {**self._flavour.actions(str(self.witness)), **PROVOKERS}.items():
            await self.deployment.register(action, **definition)

    async def prepare(self) -> None:
        """Register, and start an executor and two workers that nobody crashes."""
        deployment = self.deployment
        await self.register()
        await asyncio.gather(
            deployment.executor(**STEADY_EXECUTOR),
            deployment.worker(**STEADY_WORKER),
            deployment.worker(**STEADY_WORKER),
        )

    async def load(self) -> None:
        """Ask again and again, until it is enough; a machine that cannot keep up is left time."""
        while not self._enough.is_set():
            requests = [] if self._is_crowded else self._flavour.batch(self.random)
            ids = await self.ask(requests)
            if cancelled := [identity for identity, r in zip(ids, requests, strict=True) if r["action"] == "cancelled"]:
                await self.deployment.cancel(*cancelled)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._flavour.pause):
                    await self._enough.wait()

    async def fail(self) -> None:
        """Start two executors and two workers that fail now and again wherever they can; wait until each has failed."""
        # More seldom where everything passes: a claim that fails after its commit is handed back two renewals later.
        often = ",".join(f"{p.name}=error@every:{12 if p.name.startswith((*OFTEN, 'relay.')) else 3}" for p in CAN_FAIL)
        late = ",".join(f"{point}=error" for point in AT_THE_END)
        armed = {"FAULTS": f"{often},{late}"}
        lease = {"LEASE": "14", "RENEW": "1", "GUARDIAN": "9", "CONCURRENCY": "16"}
        both = (self.deployment.executor(**EAGER_EXECUTOR, **armed) for _ in range(2))
        workers = (self.deployment.worker(**{**EAGER_WORKER, **armed, **lease}) for _ in range(2))
        await asyncio.gather(*both, *workers)

        async def all_failed() -> bool:
            lines = [line for daemon in self.deployment.daemons for line in self.deployment.lines(daemon)]
            met = {line["point"] for line in lines if line["event"] == "fault"}
            await self._provoke(left := {point.name for point in CAN_FAIL} - met)
            assert left == set(), f"not reached: {sorted(left)}"
            return True

        await eventually(all_failed, REACH)
        for restore in RESTORATIONS.values():
            await restore(self)
        self._enough.set()

    async def _provoke(self, points: Iterable[str]) -> None:
        """Let these be reached that are not by themselves, once in a while."""
        now = asyncio.get_running_loop().time()
        if now < self._provoke_at:
            return
        self._is_crowded = await self.deployment.connection.fetchval(MOST_WAITING) >= ENOUGH
        if not self._is_crowded:
            for provoke in dict.fromkeys(PROVOCATIONS[point] for point in points if point in PROVOCATIONS):
                await provoke(self)
        self._provoke_at = now + PROVOKE

    async def heal(self) -> None:
        """Ask no more, and start a last executor and worker that nobody crashes and that look often."""
        self._enough.set()
        await asyncio.gather(self.deployment.executor(**EAGER_EXECUTOR), self.deployment.worker(**STEADY_WORKER))

    async def ask(self, requests: Iterable[dict[str, Any]]) -> list[UUID]:
        """Ask for executions that must have ended when all is over."""
        ids = await self.deployment.ask(list(requests))
        self.asked += ids
        return ids

    async def crash(self, *steps: Step | None) -> None:
        """Start one process for each step, armed there, and wait until all have crashed."""
        armed = [(step, self.armed(step)) for step in steps if step is not None]
        told: set[str] = set()

        async def all_crashed() -> bool:
            for step, daemon in armed:
                if step.point.startswith(("drain.", "retire.")) and step.point not in told and self._is_working(daemon):
                    daemon.child.send(signal.SIGTERM)
                    told.add(step.point)
            left = [step.point for step, daemon in armed if not self.has_crashed(daemon, step.point)]
            await self._provoke(left)
            assert left == [], f"not reached: {left}"
            return True

        await eventually(all_crashed, REACH)
        for step, daemon in armed:
            self.deployment.kill(daemon)
            if step.role == "executor":
                assert await daemon.child.wait(5) == -signal.SIGKILL
        for step, _ in armed:
            if (restore := RESTORATIONS.get(step.point)) is not None:
                await restore(self)

    def armed(self, step: Step) -> Daemon:
        """Start a daemon that is to crash, and do not wait for it."""
        env = EAGER_EXECUTOR if step.role == "executor" else EAGER_WORKER
        daemon = self.deployment.daemon(step.role, {**env, **EXTRA.get(step.point, {}), "FAULTS": step.fault})
        daemon.child.start()
        return daemon

    def _is_working(self, daemon: Daemon) -> bool:
        return any(line["event"] == "finished" for line in self.deployment.lines(daemon))

    def has_crashed(self, daemon: Daemon, point: str) -> bool:
        """Whether it has come to its point."""
        return any(line["event"] == "fault" and line["point"] == point for line in self.deployment.lines(daemon))

    async def is_exact(self, completed: list[dict[str, Any]]) -> None:
        """Assert that all that was asked for ended once and was told, and that every invariant holds."""
        deployment, connection = self.deployment, self.deployment.connection

        async def all_ended() -> bool:
            rows = await connection.fetch(ENDS, self.asked)
            assert len(rows) == len(self.asked), f"{len(rows)} of {len(self.asked)} ended"
            assert [dict(row) for row in rows if not self._is_due_end(row)] == []
            return True

        await eventually(all_ended, 90)
        await deployment.until_clean(timeout=20)
        made = await connection.fetch("SELECT id, parent_id, finished_at FROM execution")
        assert {row["id"] for row in made if row["parent_id"] is None} == set(self.asked)
        # The parts of batches, too.
        assert [row["id"] for row in made if row["finished_at"] is None] == []
        assert await connection.fetchval(ENDED_TWICE) == 0
        assert await connection.fetchval("SELECT count(*) FROM execution_transition WHERE source = target") == 0

        def all_told() -> bool:
            missing = {f"{row['id']}/1/completed" for row in made} - {each["id"] for each in completed}
            assert len(missing) == 0, missing
            return True

        await eventually(all_told)
        assert len({each["id"] for each in completed}) == len(made)
        keys = await connection.fetch("SELECT name, lim FROM queue WHERE lim IS NOT NULL")
        most = await most_at_once(connection)
        assert [key["name"] for key in keys if most[key["name"]] > key["lim"]] == []
        assert await inversions(connection) == 0
        async with connection.transaction():
            verdicts = (await examine(connection)).invariants
        assert [verdict for verdict in verdicts if verdict.count] == []
        assert [path.name for path in self.witness.glob("overlap.*")] == []

    def _is_due_end(self, row: asyncpg.Record) -> bool:
        if row["status"] == "abandoned":
            return bool(row["losses"] == MOST_LOSSES)
        return row["status"] in self._flavour.ends or (row["status"] == "cancelled" and row["id"] in self.cancelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One kind of load: its actions, what is asked for each time and how often, and the statuses that are its ends."""

    name: str
    actions: Callable[[str], dict[str, dict[str, Any]]]
    batch: Callable[[random.Random], list[dict[str, Any]]]
    ends: frozenset[str]
    pause: float


def _customers(chance: random.Random) -> list[dict[str, Any]]:
    return [{"action": "keyed", "params": {"customer": chance.randrange(6)}} for _ in range(6)] + [
        {"action": "few"}
    ] * 2


def _commands(witness: str) -> dict[str, dict[str, Any]]:
    # A dead process lets go of its lock. One that finds it taken runs beside another attempt of the same execution.
    alone = 'exec 9>>"$0/$INTERLOCK_EXECUTION_ID"; flock -n 9 || touch "$0/overlap.$INTERLOCK_EXECUTION_ID"; '
    command = ["sh", "-c", f'{alone}test "$INTERLOCK_ATTEMPT" -gt 1', witness]
    retry = {"max_attempts": 3, "backoff": "constant", "delay": "200ms"}
    return {
        "flaky": {"command": command, "retry": retry, "limit": 4},
        "cancelled": {"command": ["sh", "-c", f"{alone}exec sleep 0.3", witness], "limit": 3},
    }


FLAVOURS: Final = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="plain",
            actions=lambda _: {"plain": {"function": NOTHING}},
            batch=lambda _: [{"action": "plain"}] * 5,
            ends=frozenset({"completed"}),
            pause=0.4,
        ),
        Flavour(
            name="limited",
            actions=lambda _: {
                "keyed": {"function": NOTHING, "keys": [{"name": "customer/{{ params.customer }}", "limit": 1}]},
                "few": {"function": NOTHING, "limit": 3},
            },
            batch=_customers,
            ends=frozenset({"completed"}),
            pause=0.4,
        ),
        Flavour(
            name="commands",
            actions=_commands,
            batch=lambda _: [{"action": "flaky"}, {"action": "cancelled"}],
            ends=frozenset({"completed", "cancelled"}),
            pause=0.3,
        ),
    )
}
PROVOKERS: Final[dict[str, dict[str, Any]]] = {
    "part": {"function": NOTHING},
    "wide": {
        "function": NOTHING,
        "keys": [{"name": "wide", "limit": 40}, {"name": "lane/{{ params.lane }}", "limit": 1}],
    },
    "bounded": {"function": NOTHING, "limit": 2},
    "paced": {"function": NOTHING, "rate": "10/s"},
    "paired": {
        "function": NOTHING,
        "keys": [
            {"name": "left/{{ params.left }}", "limit": 1},
            {"name": "right/{{ params.right }}", "limit": 1},
        ],
    },
}


async def _dead_letters(stage: Stage) -> None:
    channel = await stage.deployment.channel("amqp_url")
    exchange = await channel.get_exchange(f"{stage.deployment.topology.prefix}.dead", ensure=False)
    for _ in range(2):
        await exchange.publish(aio_pika.Message(b"{"), "")


async def _lost_completions(stage: Stage) -> None:
    """Let the executors hear of no completion until the next time, and then of all again."""
    topology = stage.deployment.topology
    queue = await (await stage.deployment.channel("amqp_url")).get_queue(topology.completed_queue.name, ensure=False)
    stage.is_deaf = not stage.is_deaf
    change = queue.unbind if stage.is_deaf else queue.bind
    await change(topology.completions.name, "execution.completed.#")
    await stage.ask([{"action": "bounded"}] * 2)


async def _completions_again(stage: Stage) -> None:
    if stage.is_deaf:
        await _lost_completions(stage)


async def _unpublished(stage: Stage) -> None:
    """Accept and cancel without a daemon: what is to be told waits for a sweep of either role."""
    async with Client.connect(stage.deployment.endpoints.database_url) as client:
        answers = await client.submit([{"action": "bounded"}] * 6)
        ids = [answer.id for answer in answers if answer.id is not None]
        stage.asked += ids
        stage.cancelled.update(ids)
        await client.cancel(ids)


async def _lost_worker(stage: Stage) -> None:
    """Let one more worker die with what it has begun, once."""
    begun = Step("worker", "execution.started")
    if stage.victim is None:
        stage.victim = stage.armed(begun)
    elif stage.has_crashed(stage.victim, begun.point):
        stage.deployment.kill(stage.victim)


async def _no_victim(stage: Stage) -> None:
    if stage.victim is not None:
        stage.deployment.kill(stage.victim)
        stage.victim = None


async def _late_cancel(stage: Stage) -> None:
    await stage.deployment.connection.execute(
        "INSERT INTO cancel_tombstone (execution_id, reason, actor, expires_at)"
        " SELECT id, 'late', '/test', now() + interval '1 hour' FROM execution WHERE finished_at IS NOT NULL LIMIT 1"
        " ON CONFLICT DO NOTHING"
    )


async def _due_timer(stage: Stage) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    await stage.ask([{"action": "bounded", "not_before": soon.isoformat()}])


async def _paced(stage: Stage) -> None:
    await stage.ask([{"action": "paced"}] * 4)


async def _pairs(stage: Stage) -> None:
    """Let lanes of two keys wait for one another, so that heads are passed over and claim."""
    pairs = [{"left": stage.random.randrange(3), "right": stage.random.randrange(3)} for _ in range(10)]
    await stage.ask({"action": "paired", "params": pair} for pair in pairs)


async def _sudden_room(stage: Stage) -> None:
    """Let many lanes wait for one key, then give it more room than one admission looks at lanes."""
    connection = stage.deployment.connection
    await connection.execute("""SELECT set_queue('leaf', 'wide', '{"lim": 1}')""")
    await stage.ask({"action": "wide", "params": {"lane": lane}} for lane in range(40))
    waiting = "SELECT waiting >= 30 FROM queue WHERE name = 'wide'"
    with suppress(AssertionError):
        await eventually(lambda: connection.fetchval(waiting), 2)
    await connection.execute("""SELECT set_queue('leaf', 'wide', '{"lim": 40}')""")


async def _planned_batch(stage: Stage) -> None:
    """Let a worker plan."""
    plan = {"range": {"from": 1, "to": 3, "step": 1}}
    await stage.ask([{"action": "cut", "definition": {"partition": plan, "run": {"action": "part"}}}])


async def _idle_batch(stage: Stage) -> None:
    """Let a batch be open in which nothing happens."""
    if not await stage.deployment.connection.fetchval("SELECT count(*) FROM batch WHERE sealed_at IS NULL"):
        await stage.ask([{"action": "cut", "definition": {"sealed": False, "run": {"action": "part"}}}])


async def _seal_all(stage: Stage) -> None:
    seal = (
        "SELECT seal_batch(execution_id, '/client/test') FROM batch WHERE sealed_at IS NULL AND planned_at IS NOT NULL"
    )
    await stage.deployment.connection.execute(seal)


PROVOCATIONS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    **{point.name: _dead_letters for point in POINTS if point.name.startswith("dead.")},
    # One that hears no completions, because slots were to leak, would never come to what it does with them.
    **{point.name: _completions_again for point in POINTS if point.name.startswith("completed.")},
    "admission.committed": _sudden_room,
    "sweep.claimed": _unpublished,
    "timers.fired": _due_timer,
    "timers.admitted": _paced,
    "reconciler.claims_admitted": _pairs,
    "reconciler.slots_released": _lost_completions,
    "reconciler.cancels_honoured": _late_cancel,
    "reconciler.batch_driven": _idle_batch,
    "reaper.moved": _lost_worker,
    "plan.committed": _planned_batch,
}
RESTORATIONS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "reconciler.slots_released": _completions_again,
    "reconciler.batch_driven": _seal_all,
    "reaper.moved": _no_victim,
}
