"""A crash at every named step, under every flavour of load: what was accepted ends once, within its limits, in order.

The short form crashes at some steps under one load; the long form (`./dev test --long`) at each step under each, and
lets every step fail now and again, which takes minutes to recover from.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from itertools import zip_longest
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest

from tests.long import LONG
from tests.system.crashes import FLAVOURS, NOTHING, Stage, Step, all_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.system.deployment import Deployment

CLI: Final = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")
Pair = tuple[Step | None, Step | None]


def pairs(executor: Sequence[str], worker: Sequence[str]) -> list[Pair]:
    return [(Step("executor", e), Step("worker", w)) for e, w in zip(executor, worker, strict=True)]


SHORT: Final = pairs(
    ("requests.committed", "completed.committed", "status_changed.offered", "timers.fired", "relay.confirmed"),
    ("finish.committed", "claim.committed", "claim.started", "execution.ended", "drain.told"),
)
ALL: Final = list(zip_longest(all_steps("executor"), all_steps("worker")))
only_long = pytest.mark.skipif(not LONG, reason="asked for by ./dev test --long")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "flavour", ["limited", pytest.param("plain", marks=only_long), pytest.param("commands", marks=only_long)]
)
async def test_a_crash_at_each_step_loses_nothing_and_repeats_nothing(
    deployment: Deployment, tmp_path: Path, flavour: str
) -> None:
    completed = await deployment.subscribe("completions")
    witness = tmp_path / "witness"
    witness.mkdir()
    stage = Stage(deployment, FLAVOURS[flavour], witness)
    await stage.prepare()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.load())
        for pair in ALL if LONG else SHORT:
            await stage.crash(*pair)
        await stage.heal()
    await stage.is_exact(completed)
    # What was lost with a worker really ran again; otherwise nothing was proved.
    lost = "SELECT count(*) FROM execution_attempt WHERE outcome = 'lost'"
    assert await deployment.connection.fetchval(lost) > 0


@only_long
@pytest.mark.timeout(600)
async def test_an_error_now_and_again_at_every_step_loses_nothing_and_ends_no_process(
    deployment: Deployment, tmp_path: Path
) -> None:
    completed = await deployment.subscribe("completions")
    stage = Stage(deployment, FLAVOURS["plain"], tmp_path)
    await stage.register()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stage.load())
        await stage.fail()
    await stage.is_exact(completed)


REFUSED: Final = (
    "INTERLOCK_FAULTS: no fault point is called 'finish.commited'; did you mean \"finish.committed\"?, "
    "got 'finish.commited=crash' (example: INTERLOCK_FAULTS=finish.committed=crash@3)"
)


async def test_a_daemon_does_not_start_with_a_fault_that_nobody_knows(deployment: Deployment) -> None:
    code, lines = await deployment.exit_of("executor", FAULTS="finish.commited=crash")
    assert (code, [line["event"] for line in lines]) == (78, [REFUSED])


async def test_an_armed_daemon_says_so_when_it_starts(deployment: Deployment) -> None:
    daemons = await asyncio.gather(
        deployment.executor(FAULTS="reaper.moved=stop@7"), deployment.worker(FAULTS="reaper.moved=stop@7")
    )
    told = [[line for line in deployment.lines(each) if line["level"] == "warning"] for each in daemons]
    assert [(line["event"], line["role"], line["faults"]) for lines in told for line in lines] == [
        ("armed to fail, for testing only", role, ["reaper.moved=stop@7"]) for role in ("executor", "worker")
    ]


async def test_a_client_that_dies_before_its_answer_asks_again_and_gets_the_same_execution(
    deployment: Deployment,
) -> None:
    await deployment.register("plain", function=NOTHING)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    ours["INTERLOCK_DATABASE_URL"] = deployment.endpoints.database_url

    async def run(**more: str) -> tuple[int | None, bytes, bytes]:
        words = ("run", "plain", "--key", "once", "--json")
        process = await asyncio.create_subprocess_exec(*CLI, *words, env={**ours, **more}, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        return process.returncode, out, err

    code, out, err = await run(INTERLOCK_FAULTS="accept.committed=crash")
    assert (code, out) == (-signal.SIGKILL, b"")
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["armed to fail, for testing only", "fault"]
    [accepted] = [row["id"] for row in await deployment.connection.fetch("SELECT id FROM execution")]
    code, out, err = await run()
    assert (code, UUID(json.loads(out)["id"])) == (0, accepted)
    assert err.decode() == f"interlock: requested before, as execution {accepted}\n"
    assert await deployment.connection.fetchval("SELECT count(*) FROM execution") == 1
