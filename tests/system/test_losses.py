"""Workers that are killed: what they held goes on elsewhere, nothing of it runs twice at once, the count is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.eventually import eventually
from tests.system.deployment import ids_of

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from tests.system.deployment import Deployment
    from tests.system.gate import Gate

WAIT: Final = "tests.system.actions:wait_at_gate"
SHORT: Final = {"LEASE": "8", "RENEW": "1", "GUARDIAN": "3", "REAPER": "0.5", "RECONCILE": "1"}
LOST = ("running", "requested", "executor")


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def workers(deployment: Deployment) -> list[asyncpg.Record]:
    return await deployment.connection.fetch("SELECT * FROM worker ORDER BY started_at")


async def is_taken_over(deployment: Deployment, gate: Gate, identity: UUID) -> None:
    """Assert that the second attempt runs alone, after the lease of the first, and ends well."""
    await gate.arrived(2, timeout=15)
    first, second = await workers(deployment)
    assert (first["pid"], second["pid"]) == (gate.seen[0].pid, gate.seen[1].pid)
    moved = await deployment.connection.fetchval(
        "SELECT at FROM execution_transition WHERE execution_id = $1 AND source = 'running'", identity
    )
    assert moved >= first["lease_expires_at"]
    gate.let_all_go("done")
    await deployment.until(identity, "completed")
    row = await deployment.row(identity)
    assert (row["attempt"], row["losses"], row["failures"]) == (2, 1, 0)
    assert await deployment.attempts(identity) == [(1, "lost"), (2, "completed")]
    assert await deployment.moves(identity) == [
        (None, "scheduled", "executor"),
        ("scheduled", "running", "worker"),
        LOST,
        ("requested", "scheduled", "executor"),
        ("scheduled", "running", "worker"),
        ("running", "completed", "worker"),
    ]
    assert (gate.most_of_one, gate.most) == (1, 1)
    ended = [worker["ended_at"] is not None for worker in await workers(deployment)]
    assert ended == [True, False]
    await deployment.until_clean()


async def test_a_killed_worker_is_started_anew_and_its_execution_goes_on_after_the_lease(
    deployment: Deployment, gate: Gate, tmp_path: Path
) -> None:
    await deployment.register("job", function=WAIT)
    await deployment.register("daemon", command=["sh", "-c", 'echo $$ > "$0"; exec sleep 600', str(tmp_path / "pid")])
    completed = await deployment.subscribe("completions")
    await deployment.trio(**SHORT)
    [identity] = await deployment.submit("job", params={"gate": gate.path})
    [first] = await gate.arrived(1)
    [endless] = await deployment.submit("daemon")
    await eventually((tmp_path / "pid").exists)
    await deployment.until(endless, "running")
    process = int((tmp_path / "pid").read_text())
    await deployment.cancel(endless)
    os.kill(first.pid, signal.SIGKILL)
    # Nothing outlives its worker, and what was being cancelled ends as its cancel says.
    await eventually(lambda: is_gone(process))
    await is_taken_over(deployment, gate, identity)
    await deployment.until(endless, "cancelled")
    await eventually(lambda: ids_of(completed) == {identity: 1, endless: 1})


async def test_a_killed_guardian_takes_its_worker_with_it_and_another_goes_on(
    deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT)
    *_, guardian = await deployment.trio(**SHORT)
    [identity] = await deployment.submit("job", params={"gate": gate.path})
    await gate.arrived(1)
    os.kill(guardian.pid, signal.SIGKILL)
    deployment.kill(guardian)
    await eventually(lambda: gate.waiting == [])
    await deployment.worker(**SHORT)
    await is_taken_over(deployment, gate, identity)


async def test_a_stopped_worker_is_killed_by_its_guardian_before_its_lease_ends(
    deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT)
    await deployment.trio(**SHORT)
    [identity] = await deployment.submit("job", params={"gate": gate.path})
    [first] = await gate.arrived(1)
    os.kill(first.pid, signal.SIGSTOP)
    await eventually(lambda: gate.waiting == [], timeout=8)
    [held] = await workers(deployment)
    assert await deployment.connection.fetchval("SELECT $1 > now()", held["lease_expires_at"])
    await is_taken_over(deployment, gate, identity)


async def test_an_action_that_kills_its_worker_each_time_is_abandoned_after_three_losses(
    deployment: Deployment,
) -> None:
    await deployment.register("deadly", function="tests.system.actions:kill_worker")
    completed = await deployment.subscribe("completions")
    await deployment.trio(**SHORT)
    [identity] = await deployment.submit("deadly")

    async def abandoned() -> bool:
        # Leases of the dead are ended by hand: that they are waited for is another test's concern.
        for worker in await workers(deployment):
            if is_gone(worker["pid"]):
                await deployment.connection.execute(
                    "UPDATE worker SET lease_expires_at = least(lease_expires_at, now()) WHERE id = $1", worker["id"]
                )
        return bool((await deployment.row(identity))["status"] == "abandoned")

    await eventually(abandoned, timeout=40)
    row = await deployment.row(identity)
    assert (row["attempt"], row["losses"], row["failures"]) == (3, 3, 0)
    assert await deployment.attempts(identity) == [(1, "lost"), (2, "lost"), (3, "lost")]
    moves = await deployment.moves(identity)
    assert [move for move in moves if move[0] == "running"] == [LOST, LOST, ("running", "abandoned", "executor")]
    # The executor ended it, and only a worker may say so: the next one does, once.
    await eventually(lambda: ids_of(completed) == {identity: 1})
    assert completed[0]["data"]["status"] == "abandoned"
    await deployment.until_clean()
    assert ids_of(completed) == {identity: 1}
