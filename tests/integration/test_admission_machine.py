"""Any order of requests, claims, ends, retries, cancels and limits, repeats included: the invariants always hold."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
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

from tests.world import opened

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

T = TypeVar("T")
PROFILE = settings(
    max_examples=30,
    stateful_step_count=30,
    # Making a failure small takes minutes on a database, and would end in the time limit without a word.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
ACTIONS = ("job", "other")
KEYS = ("action:job", "action:other", "key:a", "key:b")
OPEN = ("requested", "scheduled", "running", "cancelling")
which = st.integers(0, 10**6)


class Admission(RuleBasedStateMachine):
    """One database, one worker with two places (a window of four), two actions and two concurrency keys."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.world = self.wait(self.stack.enter_async_context(opened(url)))
        self.wait(self.world.empty())
        for action in ACTIONS:
            self.wait(self.world.register(action))
        self.hand = self.wait(self.world.worker(capacity=2))
        self.ids: list[UUID] = []
        self.held: dict[str, int] = {}

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do one thing on the machine's own loop."""
        return self.runner.run(work)

    def those(self, *statuses: str) -> list[UUID]:
        rows = self.wait(
            self.world.tx.fetch(
                "SELECT id FROM execution WHERE status = ANY($1::text[]::status[]) ORDER BY id", list(statuses)
            )
        )
        return [row["id"] for row in rows]

    def one(self, number: int, *statuses: str) -> UUID | None:
        found = self.those(*statuses)
        return found[number % len(found)] if found else None

    @initialize(limits=st.fixed_dictionaries({name: st.sampled_from((0, 1, None)) for name in KEYS}))
    def begin_with_limits_and_a_backlog(self, limits: dict[str, int | None]) -> None:
        for name, lim in limits.items():
            self.wait(self.world.limit(name, lim))
        for action, key in (("job", None), ("other", "a"), ("job", "b")):
            self.submit(3, action, key, 0)

    @rule(
        count=st.integers(1, 3),
        action=st.sampled_from(ACTIONS),
        key=st.sampled_from((None, "a", "b")),
        priority=st.sampled_from((0, 5)),
    )
    def submit(self, count: int, action: str, key: str | None, priority: int) -> None:
        fields = {"concurrency_key": key} if key else {}
        self.ids += self.wait(self.world.submit(count, action, priority=priority, **fields))

    @rule(number=which)
    def claim(self, number: int) -> None:
        if identity := self.one(number, "scheduled"):
            assert self.wait(self.world.claim(self.hand, identity)) == 1
            assert self.wait(self.world.claim(self.hand, identity)) == 0

    @rule(number=which, outcome=st.sampled_from(("completed", "failed", "timed_out")), told=st.booleans())
    def finish(self, number: int, outcome: str, *, told: bool) -> None:
        if identity := self.one(number, "running"):
            assert self.wait(self.world.finish(self.hand, identity, outcome)) == 1
            if told:
                self.wait(self.world.admit(ended=[identity]))

    @rule(number=which)
    def stop(self, number: int) -> None:
        if identity := self.one(number, "cancelling"):
            assert self.wait(self.world.finish(self.hand, identity, "cancelled", "cancelling")) == 1

    @rule(number=which, told=st.booleans())
    def retry(self, number: int, *, told: bool) -> None:
        if identity := self.one(number, "running"):
            assert self.wait(self.world.finish(self.hand, identity, "requested")) == 1
            if told:
                self.wait(self.world.admit(entering=[identity]))

    @precondition(lambda self: self.ids)
    @rule(numbers=st.lists(which, min_size=1, max_size=4))
    def completions_of_anybody(self, numbers: list[int]) -> None:
        self.wait(self.world.admit(ended=[self.ids[n % len(self.ids)] for n in numbers]))

    @precondition(lambda self: self.ids)
    @rule(numbers=st.lists(which, min_size=1, max_size=4))
    def entries_of_anybody(self, numbers: list[int]) -> None:
        self.wait(self.world.admit(entering=[self.ids[n % len(self.ids)] for n in numbers]))

    @precondition(lambda self: self.ids)
    @rule(number=which, outcome=st.sampled_from(("cancelled", "timed_out", "requested", "abandoned")))
    def decide(self, number: int, outcome: str) -> None:
        identity = self.ids[number % len(self.ids)]
        (before,) = self.wait(self.world.statuses([identity]))
        self.wait(self.world.admit(decide={identity: outcome}))
        (after,) = self.wait(self.world.statuses([identity]))
        assert before in OPEN or after == before
        assert (before, after) not in {("running", "requested"), ("running", "abandoned")}

    @rule(
        name=st.sampled_from(("action:job", *KEYS)),
        lim=st.sampled_from((None, 0, 2, 3)),
        paused=st.sampled_from((False, False, True)),
        chunk=st.sampled_from((0, 1, 1, 500)),
    )
    def limit(self, name: str, lim: int | None, *, paused: bool, chunk: int) -> None:
        key = self.wait(self.world.set_limit(name, lim, paused=paused))
        self.remember()
        if chunk:
            self.wait(self.world.admit(keys=[key], chunk=chunk))

    @rule(paused=st.booleans())
    def pause_the_pool(self, *, paused: bool) -> None:
        self.wait(self.world.set_limit("default", None, paused=paused, scope="pool"))

    @rule(chunk=st.integers(1, 3))
    def loop(self, chunk: int) -> None:
        rows = self.wait(self.world.tx.fetch("SELECT id FROM queue WHERE owed OR scope = 'pool' AND gated"))
        self.wait(self.world.admit(keys=[row["id"] for row in rows], chunk=chunk))

    @invariant()
    def the_database_is_sound(self) -> None:
        self.wait(self.world.audit())
        before = self.held
        for name, (active, lim) in self.remember().items():
            assert active <= before.get(name, 0) or lim is None or active <= lim, f"{name} grew above its limit"

    def remember(self) -> dict[str, tuple[int, int | None]]:
        rows = self.wait(self.world.tx.fetch("SELECT name, active, lim FROM queue WHERE scope = 'leaf'"))
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
        for name in KEYS:
            self.wait(self.world.limit(name, None))
        self.wait(self.world.set_limit("default", None, scope="pool"))
        for _ in range(len(self.ids) + 5):
            for identity in self.those("scheduled"):
                self.wait(self.world.claim(self.hand, identity))
            for identity in self.those("running"):
                self.wait(self.world.finish(self.hand, identity))
            for identity in self.those("cancelling"):
                self.wait(self.world.finish(self.hand, identity, "cancelled", "cancelling"))
            pools = self.wait(self.world.tx.fetch("SELECT id FROM queue"))
            self.wait(self.world.admit(ended=self.ids, entering=self.ids, keys=[row["id"] for row in pools]))
            if not self.those(*OPEN):
                break
        assert self.those(*OPEN) == []
        rows = self.wait(
            self.world.tx.fetch("SELECT name FROM queue WHERE active <> 0 OR waiting <> 0 OR gated OR owed")
        )
        assert rows == []
        self.wait(self.world.audit())


def test_no_order_of_events_breaks_an_invariant_or_forgets_an_execution(stage_url: str) -> None:
    class OnThisStage(Admission):
        def __init__(self) -> None:
            super().__init__(stage_url)

    run_state_machine_as_test(OnThisStage, settings=PROFILE)
