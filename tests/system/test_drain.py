"""Draining by command, and replacing every daemon under load: nothing lost, late or counted as failed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest

from interlock.client import Client
from tests.eventually import eventually
from tests.system.deployment import Deployment, ids_of
from tests.world import opened
from worker import lineage

if TYPE_CHECKING:
    from uuid import UUID

    from interlock.local.daemons import Daemon
    from tests.system.gate import Gate

CLI: Final = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")
WAIT: Final = "tests.system.actions:wait_at_gate"
NOTHING: Final = "tests.system.actions:nothing"
SLOW: Final = 4
LONGEST_SECONDS: Final = 10.0
"""From asking to the end of a whole round. A lease that has to run out takes 25, a stranded dispatch 60."""


JUST_BEGUN: Final = """
SELECT EXISTS (SELECT 1 FROM execution e JOIN worker w ON w.id = e.worker_id
               WHERE e.action = 'slow' AND e.status = 'running' AND e.started_at > now() - interval '0.5 s'
                 AND w.pid = ANY($1::int[]))
"""


async def interlock(deployment: Deployment, *words: str) -> asyncio.subprocess.Process:
    """Start one command of the command line on the deployment's database."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    env = {**clean, "INTERLOCK_DATABASE_URL": deployment.endpoints.database_url}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*CLI, *words, env=env, stdout=pipe, stderr=pipe)


async def said(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode() + err.decode()


async def test_a_drained_worker_finishes_what_it_runs_and_ends_with_0_while_another_takes_the_rest(
    deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT)
    *_, first = await deployment.trio(RENEW="0.5")
    [held] = await deployment.submit("job", params={"gate": gate.path})
    await gate.arrived(1)
    code, listed = await said(await interlock(deployment, "workers", "list", "--json"))
    assert code == 0
    [worker] = json.loads(listed)
    assert (worker["running"], worker["draining"], worker["pool"]) == (1, False, "default")
    draining = await interlock(deployment, "workers", "drain", worker["id"][-8:], "--wait")
    await eventually(lambda: any(line["event"] == "draining" for line in deployment.lines(first)))
    second = await deployment.worker()
    late = await deployment.submit("job", 3, params={"gate": gate.path})
    await gate.arrived(4)
    pids = {visitor.id: visitor.pid for visitor in gate.seen}
    assert pids[held] == worker["pid"]
    assert worker["pid"] not in {pids[identity] for identity in late}
    assert draining.returncode is None
    gate.let_all_go("done")
    assert await said(draining) == (
        0,
        f"{worker['id'][-8:]} (default, {worker['host']}:{worker['pid']}) drains: 1 running\n",
    )
    # The guardian, too: nothing starts a drained worker anew but whoever supervises it, and that is told 0.
    assert await first.child.wait(10) == 0
    deployment.kill(first)
    assert second.child.exit_code is None
    assert await deployment.until_ended([held, *late]) == {"completed": 4}
    assert [await deployment.attempts(identity) for identity in (held, *late)] == [[(1, "completed")]] * 4
    await deployment.until_clean()
    assert deployment.loud() == []


async def ask_until(deployment: Deployment, done: asyncio.Event) -> tuple[list[UUID], float]:
    """Ask round after round, each when the one before has ended; return all ids and the longest round in seconds."""
    ids: list[UUID] = []
    longest = 0.0
    while not done.is_set():
        began = monotonic()
        asked = await deployment.submit("quick", 20) + await deployment.submit("slow", SLOW)
        assert await deployment.until_ended(asked, timeout=60) == {"completed": 20 + SLOW}
        longest = max(longest, monotonic() - began)
        ids += asked
    return ids, longest


async def test_a_drained_worker_has_time_for_its_last_words_as_its_lease_is_renewed_meanwhile(
    deployment: Deployment,
) -> None:
    # Longer than the guardian waits without a beat, which is 7 s here.
    short = {"LEASE": "10", "RENEW": "1", "GUARDIAN": "3"}
    worker = await deployment.worker(**short, FAULTS="retire.flushed=delay:8")
    assert await deployment.stop(worker) == 0
    assert await deployment.connection.fetchval("SELECT count(*) FROM worker WHERE ended_at IS NULL") == 0


async def replace(deployment: Deployment, old: Daemon) -> None:
    """Do what an upgrade does, in the middle of work: let one drain and end, then start its successor.

    A worker has begun what outlasts its drain. A message of several is claimed by one worker, not always by the same.
    """
    # By a connection of its own: whoever asks for work meanwhile looks through the deployment's.
    async with opened(deployment.endpoints.database_url) as world:

        async def all_slow_ones_run() -> bool:
            running = "SELECT count(*) FROM execution WHERE action = 'slow' AND status = 'running'"
            return bool(await world.tx.fetchval(running) == SLOW)

        async def it_has_just_begun_a_slow_one() -> bool:
            tree = lineage.descendants(old.pid, lineage.processes())
            return bool(await world.tx.fetchval(JUST_BEGUN, [one.pid for one in tree]))

        await eventually(all_slow_ones_run if old.role == "executor" else it_has_just_begun_a_slow_one, timeout=30)
    assert await deployment.stop(old) == 0
    await (deployment.executor() if old.role == "executor" else deployment.worker(DRAIN="0.2"))


@pytest.mark.timeout(300)
async def test_replacing_every_daemon_under_load_loses_nothing_and_delays_nothing(deployment: Deployment) -> None:
    await deployment.register("quick", function=NOTHING, limit=5)
    # Longer than the drain: whoever drains hands some of it back.
    await deployment.register("slow", command=["sleep", "2"], grace="1s", retry={"max_attempts": 1})
    completed = await deployment.subscribe("completions")
    executors = await deployment.executors()
    workers = await asyncio.gather(deployment.worker(DRAIN="0.2"), deployment.worker(DRAIN="0.2"))
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask_until(deployment, done))
        for old in (*executors, *workers):
            await replace(deployment, old)
        done.set()
    ids, longest = asking.result()
    assert longest < LONGEST_SECONDS
    counts = await deployment.connection.fetchrow(
        "SELECT count(*) AS executions, sum(losses) AS losses, sum(failures) AS failures,"
        " count(*) FILTER (WHERE status = 'completed') AS completed FROM execution"
    )
    assert counts is not None
    assert dict(counts) == {"executions": len(ids), "losses": 0, "failures": 0, "completed": len(ids)}
    outcomes = {row["outcome"] for row in await deployment.connection.fetch("SELECT outcome FROM execution_attempt")}
    assert outcomes == {"completed", "handed_back"}
    await deployment.until_clean()
    await eventually(lambda: set(ids_of(completed)) == set(ids))
    assert len({each["id"] for each in completed}) == len(ids)
    async with Client.connect(deployment.endpoints.database_url) as client:
        assert (await client.examine()).violations == 0
    assert {line["event"] for line in deployment.loud()} <= {"handing back what still runs"}
