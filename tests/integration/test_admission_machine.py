"""Any order of requests, claims, ends, retries, cancels and changes of keys, by two executors: the invariants hold."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg
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

from tests.eventually import eventually
from tests.long import LONG
from tests.world import World, opened, request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
PROFILE = settings(
    max_examples=100 if LONG else 8,
    stateful_step_count=30,
    # Making a failure small takes minutes on a database, and would end in the time limit without a word.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
ACTIONS: dict[str, dict[str, Any]] = {
    "job": {},
    "other": {"keys": [{"name": "lock"}]},
    "call": {"keys": [{"name": "customer/{{ params.customer }}", "limit": 1}]},
    "visit": {"keys": [{"name": "lock"}, {"name": "customer/{{ params.customer }}", "limit": 1}]},
}
KEYS = ("action:job", "action:other", "lock", "customer/1", "key:a", "key:b")
OPEN = ("requested", "scheduled", "running", "cancelling")
MOST_EXECUTIONS = 40
LARGEST_BURST = 3
which = st.integers(0, 10**6)
keys = st.sampled_from(KEYS)


class Admission(RuleBasedStateMachine):
    """One database, two executors, one worker with five places (a window of ten), and a few keys that all share."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.executors = [self.wait(self.stack.enter_async_context(opened(url))) for _ in range(2)]
        self.wait(self.executors[0].empty())
        for action, definition in ACTIONS.items():
            self.wait(self.executor().register(action, **definition))
        self.hand = self.wait(self.executor().worker(capacity=5))
        self.ids: list[UUID] = []
        self.requests: list[dict[str, Any]] = []
        self.held: dict[str, int] = {}

    def executor(self) -> World:
        """Take turns: return the executor that has not acted last."""
        self.executors.reverse()
        return self.executors[0]

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing on the machine's own loop."""
        return self.runner.run(work)

    def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return self.wait(self.executor().tx.fetch(sql, *arguments))

    def those(self, *statuses: str) -> list[UUID]:
        rows = self.fetch(
            "SELECT id FROM execution WHERE status = ANY($1::text[]::status[]) ORDER BY id", list(statuses)
        )
        return [row["id"] for row in rows]

    def one(self, number: int, *statuses: str) -> UUID | None:
        found = self.those(*statuses)
        return found[number % len(found)] if found else None

    def some(self, numbers: list[int]) -> list[UUID]:
        return [self.ids[n % len(self.ids)] for n in numbers]

    @initialize(
        limits=st.fixed_dictionaries({name: st.sampled_from((1, 1, 0, None)) for name in KEYS}),
        rates=st.fixed_dictionaries({name: st.sampled_from((None, None, 60.0)) for name in KEYS}),
    )
    def begin_with_bounds_and_a_backlog(self, limits: dict[str, int | None], rates: dict[str, float | None]) -> None:
        for name in KEYS:
            self.change(name, 500, lim=limits[name], rate_every=rates[name])
        for action, key in (("job", None), ("other", "a"), ("visit", None), ("call", "b"), ("other", None)):
            self.submit(2, action, key, 0, 1)

    @precondition(lambda self: len(self.ids) < MOST_EXECUTIONS)
    @rule(
        count=st.integers(1, 3),
        action=st.sampled_from(tuple(ACTIONS)),
        key=st.sampled_from((None, "a", "b")),
        priority=st.sampled_from((0, 5)),
        customer=st.integers(1, 2),
    )
    def submit(self, count: int, action: str, key: str | None, priority: int, customer: int) -> None:
        fields = {"priority": priority, "params": {"customer": customer}} | ({"concurrency_key": key} if key else {})
        wanted = [request(action, **fields) for _ in range(count)]
        capped = "SELECT name, waiting, cap FROM queue WHERE cap IS NOT NULL"
        before = {row["name"]: row["waiting"] for row in self.fetch(capped)}
        answers = self.wait(self.executor().accept(*wanted)).answers
        assert all(answer.accepted for answer in answers)
        for row in self.fetch(capped):
            assert row["waiting"] <= max(row["cap"], before[row["name"]]), f"{row['name']} grew above its cap"
        self.requests += wanted
        self.ids += [answer.id for answer in answers if answer.id]

    @precondition(lambda self: self.ids)
    @rule(numbers=st.lists(which, min_size=1, max_size=3))
    def ask_again(self, numbers: list[int]) -> None:
        ids = self.some(numbers)
        before = self.wait(self.executor().statuses(ids))
        answers = self.wait(self.executor().accept(*[self.requests[n % len(self.ids)] for n in numbers])).answers
        assert [(answer.accepted, answer.existing, answer.error) for answer in answers] == [
            (False, identity, None) for identity in ids
        ]
        # Whoever accepts also lets in those who may go on by now, and that may be one of these.
        after = self.wait(self.executor().statuses(ids))
        moves = {move for move in zip(before, after, strict=True) if move[0] != move[1]}
        assert moves <= {("requested", "scheduled")}

    @rule(count=st.integers(1, 6))
    def work(self, count: int) -> None:
        """Do what runs in good weather: something ends, and the next is let in."""
        for _ in range(count):
            for identity in self.those("scheduled")[:1]:
                assert self.wait(self.executor().claim(self.hand, identity)) == 1
                assert self.wait(self.executor().claim(self.hand, identity)) == 0
                assert self.wait(self.executor().finish(self.hand, identity)) == 1
                self.wait(self.executor().admit(ended=[identity]))

    @rule(number=which)
    def claim(self, number: int) -> None:
        if identity := self.one(number, "scheduled"):
            assert self.wait(self.executor().claim(self.hand, identity)) == 1

    @rule(
        number=which,
        outcome=st.sampled_from(("completed", "failed", "timed_out", "requested", "requested")),
        told=st.booleans(),
    )
    def finish(self, number: int, outcome: str, *, told: bool) -> None:
        if identity := self.one(number, "running"):
            assert self.wait(self.executor().finish(self.hand, identity, outcome)) == 1
            if told:
                again = outcome == "requested"
                self.wait(
                    self.executor().admit(entering=[identity]) if again else self.executor().admit(ended=[identity])
                )
        elif identity := self.one(number, "cancelling"):
            assert self.wait(self.executor().finish(self.hand, identity, "cancelled", "cancelling")) == 1

    @precondition(lambda self: self.ids)
    @rule(ended=st.lists(which, max_size=4), entering=st.lists(which, max_size=4))
    def hints_about_anybody(self, ended: list[int], entering: list[int]) -> None:
        """Repeated, forged, early and late ones: all are only hints."""
        self.wait(self.executor().admit(ended=self.some(ended), entering=self.some(entering)))

    @precondition(lambda self: self.ids)
    @rule(number=which, outcome=st.sampled_from(("cancelled", "timed_out", "requested", "abandoned")))
    def decide(self, number: int, outcome: str) -> None:
        (identity,) = self.some([number])
        (before,) = self.wait(self.executor().statuses([identity]))
        self.wait(self.executor().admit(decide={identity: outcome}))
        (after,) = self.wait(self.executor().statuses([identity]))
        assert before in OPEN or after == before
        assert (before, after) not in {("running", "requested"), ("running", "abandoned")}

    @rule(
        name=keys,
        lim=st.sampled_from((None, 0, 1, 1, 1, 2, 3)),
        paused=st.sampled_from((False, False, False, True)),
        chunk=st.sampled_from((0, 1, 1, 500)),
    )
    def limit(self, name: str, lim: int | None, *, paused: bool, chunk: int) -> None:
        self.change(name, chunk, lim=lim, paused=paused)

    @rule(
        name=keys,
        every=st.sampled_from((None, 60.0, 3600.0)),
        burst=st.integers(1, LARGEST_BURST),
        chunk=st.sampled_from((0, 1, 500)),
    )
    def rate(self, name: str, every: float | None, burst: int, chunk: int) -> None:
        self.change(name, chunk, rate_every=every, rate_burst=burst)

    @rule(name=keys, cap=st.sampled_from((None, 0, 2)), policy=st.sampled_from(("reject", "drop_oldest")))
    def cap(self, name: str, cap: int | None, policy: str) -> None:
        self.change(name, 0, cap=cap, cap_policy=policy)

    def change(self, name: str, chunk: int, **changes: object) -> None:
        """Change a key, and let its caller admit `chunk` of those whom that lets through, or die before."""
        key = self.wait(self.executor().set_queue(name, **changes))
        self.remember()
        if chunk:
            self.wait(self.executor().admit(keys=[key], chunk=chunk))

    @rule(seconds=st.sampled_from((30, 60, 3600)), seen=st.booleans())
    def time_passes(self, seconds: int, *, seen: bool) -> None:
        for name in KEYS:
            self.wait(self.executor().pass_time(name, seconds))
        if seen:
            self.loop(500)

    @rule(paused=st.booleans(), draining=st.booleans())
    def close_the_pool(self, *, paused: bool, draining: bool) -> None:
        self.wait(self.executor().set_limit("default", None, paused=paused, scope="pool"))
        self.wait(self.executor().tx.execute("UPDATE worker SET draining = $1", draining))

    @rule(chunk=st.sampled_from((1, 2, 3, 500)))
    def loop(self, chunk: int) -> None:
        hungry = (
            "SELECT id FROM queue WHERE owed OR scope = 'pool' AND gated OR wake_at <= clock_timestamp()"
            " OR claim_lane IS NOT NULL AND NOT paused AND (lim IS NULL OR active < lim)"
        )
        self.wait(self.executor().admit(keys=[row["id"] for row in self.fetch(hungry)], chunk=chunk))

    @rule()
    def reconcile(self) -> None:
        left = "SELECT DISTINCT execution_id FROM slot s JOIN execution e ON e.id = s.execution_id"
        ids = [row["execution_id"] for row in self.fetch(left + " WHERE is_terminal(e.status)")]
        released = self.wait(self.executor().admit(ended=ids))["released"]
        assert released >= len(ids)
        assert self.fetch(left + " WHERE is_terminal(e.status)") == []

    @precondition(lambda self: self.ids)
    @rule(
        acts=st.tuples(*[st.sampled_from(("release", "enter", "cancel", "change", "request"))] * 2),
        numbers=st.lists(which, min_size=2, max_size=2),
        name=keys,
        lim=st.sampled_from((None, 0, 1)),
    )
    def two_at_once(self, acts: tuple[str, str], numbers: list[int], name: str, lim: int | None) -> None:
        """The second begins while the first is not committed: it waits for it, or has nothing to do with it."""
        ids = self.some(numbers)
        doing: dict[str, Callable[[World], Coroutine[Any, Any, Any]]] = {
            "release": lambda world: world.admit(ended=ids),
            "enter": lambda world: world.admit(entering=ids),
            "cancel": lambda world: world.admit(decide={ids[0]: "cancelled"}),
            "change": lambda world: world.set_queue(name, lim=lim),
            "request": self.ask,
        }
        self.wait(self.overlap(*[doing[act] for act in acts]))
        if acts[1] == "change":
            self.remember()

    async def ask(self, world: World) -> None:
        """Request one execution, once more when a key changed meanwhile, as whoever accepts does."""
        wanted = request("visit", params={"customer": 1})
        try:
            await world.accept(wanted)
        except asyncpg.SerializationError:
            await world.accept(wanted)
        self.requests.append(wanted)
        self.ids.append(UUID(wanted["id"]))

    async def overlap(
        self, first: Callable[[World], Coroutine[Any, Any, Any]], second: Callable[[World], Coroutine[Any, Any, Any]]
    ) -> None:
        here, there = self.executors
        transaction = here.tx.transaction()
        await transaction.start()
        await first(here)
        await self.note(here)

        async def settled() -> bool:
            return task.done() or await here.is_blocking(there)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(second(there))
            await eventually(settled)
            await transaction.commit()

    @invariant()
    def the_database_is_sound(self) -> None:
        self.wait(self.executor().audit())
        before = self.held
        for name, (active, lim) in self.remember().items():
            assert active <= before.get(name, 0) or lim is None or active <= lim, f"{name} grew above its limit"
        ahead = (
            "SELECT name FROM queue WHERE rate_every IS NOT NULL"
            " AND tat > extract(epoch FROM clock_timestamp()) + $1 * rate_every"
        )
        assert self.fetch(ahead, LARGEST_BURST) == [], "a rate let through more than its burst"

    def remember(self) -> dict[str, tuple[int, int | None]]:
        return self.wait(self.note(self.executor()))

    async def note(self, world: World) -> dict[str, tuple[int, int | None]]:
        """Note how many slots each key has given out, and return that with its limit."""
        rows = await world.tx.fetch("SELECT name, active, lim FROM queue WHERE scope = 'leaf'")
        self.held = {row["name"]: row["active"] for row in rows}
        return {row["name"]: (row["active"], row["lim"]) for row in rows}

    def teardown(self) -> None:
        """Open every gate: whatever still waits must come to its end, and nothing may be left behind."""
        try:
            self.run_dry()
        finally:
            self.wait(self.stack.aclose())
            self.runner.close()

    def run_dry(self) -> None:
        self.close_the_pool(paused=False, draining=False)
        for row in self.fetch("SELECT name FROM queue WHERE scope = 'leaf' ORDER BY name"):
            self.change(row["name"], 0, lim=None, paused=False, rate_every=None, cap=None)
        for _ in range(len(self.ids) + 5):
            for identity in self.those("scheduled"):
                self.wait(self.executor().claim(self.hand, identity))
            for identity in self.those("running"):
                self.wait(self.executor().finish(self.hand, identity))
            for identity in self.those("cancelling"):
                self.wait(self.executor().finish(self.hand, identity, "cancelled", "cancelling"))
            every = [row["id"] for row in self.fetch("SELECT id FROM queue")]
            self.wait(self.executor().admit(ended=self.ids, entering=self.ids, keys=every))
            if not self.those(*OPEN):
                break
        assert self.those(*OPEN) == []
        left = "active <> 0 OR waiting <> 0 OR gated OR owed OR wake_at IS NOT NULL OR claim_lane IS NOT NULL"
        assert self.fetch(f"SELECT name FROM queue WHERE {left}") == []  # noqa: S608 - written above
        self.wait(self.executor().audit())


def test_no_order_of_events_breaks_an_invariant_or_forgets_an_execution(stage_url: str) -> None:
    class OnThisStage(Admission):
        def __init__(self) -> None:
            super().__init__(stage_url)

    run_state_machine_as_test(OnThisStage, settings=PROFILE)
