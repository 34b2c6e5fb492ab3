"""Slots of many keys while messages about ends are lost, repeated and untrue: exact limits, exact order, none left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from interlock.client.doctor import examine
from tests.eventually import eventually
from tests.long import LONG
from tests.system.history import each_completed_once, inversions, most_at_once, overtaken
from tests.system.meddler import Meddler

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system.deployment import Deployment
    from tests.system.gate import Gate

NOTHING: Final = "tests.system.actions:nothing"
WAIT: Final = "tests.system.actions:wait_at_gate"
COUNT: Final = 20_000 if LONG else 2_000
LIMITS: Final = {f"customer/{number}": number % 5 + 1 for number in range(50)}
LONGEST_LEAK: Final = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - e.finished_at)), 0)::float8
FROM slot s JOIN execution e ON e.id = s.execution_id WHERE is_terminal(e.status)
"""
MOST_SECONDS: Final = 10.0
"""How long a slot may outlive its execution."""


async def outcomes(deployment: Deployment) -> dict[str, float]:
    """Return how many completions the executors handled, by outcome."""
    return {
        outcome: await deployment.metric(
            "executor", "interlock_messages_total", type="execution.completed", outcome=outcome
        )
        for outcome in ("processed", "duplicate", "stale", "forged")
    }


async def submitted(deployment: Deployment) -> list[UUID]:
    """Ask for COUNT executions; each key gets as many of them as its limit says, in turns."""
    turns = [name for turn in range(5) for name, limit in LIMITS.items() if turn < limit]
    return await deployment.ask(
        [
            {"action": f"job{LIMITS[name]}", "params": {"customer": name.partition("/")[2]}}
            for name in (turns[number % len(turns)] for number in range(COUNT))
        ]
    )


async def longest_leak(deployment: Deployment, meddler: Meddler) -> float:
    """Wait until all have ended and no slot of theirs is left; return how long one outlived its execution at most."""
    leaks: list[float] = []

    async def all_released() -> bool:
        leaks.append(await deployment.connection.fetchval(LONGEST_LEAK))
        return len(meddler.heard) == COUNT and leaks[-1] == 0

    await eventually(all_released, timeout=300)
    return max(leaks)


@pytest.mark.timeout(400)
async def test_with_completions_dropped_repeated_and_forged_no_limit_is_passed_and_no_slot_is_lost(
    deployment: Deployment, gate: Gate
) -> None:
    for limit in range(1, 6):
        keys = [{"name": "customer/{{ params.customer }}", "limit": limit}]
        await deployment.register(f"job{limit}", function=NOTHING, keys=keys)
    await deployment.register("held", function=WAIT, limit=2)
    await deployment.register("shut", function=NOTHING, limit=0)
    await asyncio.gather(deployment.trio(CONCURRENCY="100"), deployment.worker(CONCURRENCY="100"))
    meddler = Meddler(deployment)
    await meddler.start()
    # Whom the untrue ones are about: two that run until the end, and others that wait for them or for a closed key.
    victims = await deployment.submit("held", 6, params={"gate": gate.path}) + await deployment.submit("shut", 14)
    await gate.arrived(2)
    meddler.forge(victims)
    ids = await submitted(deployment)
    assert await longest_leak(deployment, meddler) <= MOST_SECONDS

    async def all_forgeries_seen() -> bool:
        return (await outcomes(deployment))["forged"] == COUNT // 20

    await eventually(all_forgeries_seen)
    assert (meddler.dropped, meddler.repeated, meddler.forged) == (COUNT // 20, COUNT // 10, COUNT // 20)
    # None of them came true.
    rows = await deployment.connection.fetch("SELECT id, status::text FROM execution WHERE id = ANY($1)", victims)
    assert sorted(row["status"] for row in rows) == ["requested"] * 18 + ["running"] * 2
    assert await deployment.connection.fetchval("SELECT count(*) FROM slot") == 2
    meddler.forge([])
    gate.let_all_go()
    await deployment.connection.execute("""SELECT set_queue('leaf', 'action:shut', '{"lim": 14}')""")
    assert await deployment.until_ended(victims) == {"completed": 20}
    await deployment.until_clean(timeout=15)
    await is_exact(deployment, ids, victims)

    async def all_counted() -> bool:
        handled = await outcomes(deployment)
        assert sum(handled.values()) == meddler.passed, handled
        assert (handled["forged"], handled["stale"]) == (COUNT // 20, 0)
        # Of two that meet in both executors at once, each sees a slot to release, and one of them finds it gone.
        assert 0 < handled["duplicate"] <= meddler.repeated
        return True

    await eventually(all_counted)
    assert await deployment.metric("executor", "interlock_repairs_total", kind="slot") >= meddler.dropped
    assert deployment.loud() == []


async def is_exact(deployment: Deployment, ids: list[UUID], victims: list[UUID]) -> None:
    """Assert every figure that the database tells of a run that is over."""
    connection = deployment.connection
    await each_completed_once(connection, [*ids, *victims])
    # No more than the limit at any moment, and the limit at some moment: nothing was left idle for good either.
    assert await most_at_once(connection) == {**LIMITS, "action:held": 2, "action:shut": 14}
    assert (await inversions(connection), await overtaken(connection, ids)) == (0, 0)
    async with connection.transaction():
        verdicts = (await examine(connection)).invariants
    assert [verdict for verdict in verdicts if verdict.count] == []
