"""The trials, run as a user runs them: a short selection on a private stack, and beside somebody's own work."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from chaos.batch_kinds import SHARE
from chaos.eyes import SQL
from chaos.figures import MEANING
from tests.eventually import eventually
from tests.long import LONG

if TYPE_CHECKING:
    from tests.system.deployment import Deployment

CHAOS: Final = [sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())", "chaos"]
SECONDS: Final = 400
EXECUTIONS: Final = 250
SELECTION: Final = ("kill-random", "meddler", "database-cut", "broker-purge", *(("batches",) if LONG else ()))
HINDERED: Final = 10 if LONG else 0
"""How much higher the bars for times are among batches, where whoever heals is cut off, too."""
BATCHES: Final = round(EXECUTIONS * SHARE) if LONG else 0


async def run(*words: str, **env: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the trials to their end; return what they said, and the document on the last line."""
    command = [*CHAOS, "--json", *words]
    told = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **env},
    )
    return told, json.loads(told.stdout.splitlines()[-1]) if told.returncode in {0, 1} else {}


@pytest.mark.timeout(SECONDS + 20)
async def test_a_short_selection_of_the_trials_holds_every_bar() -> None:
    chosen = [word for name in SELECTION for word in ("--scenario", name)]
    told, found = await run(*chosen, "--executions", str(EXECUTIONS), "--seconds", "10")
    assert told.returncode == 0, told.stdout + told.stderr
    assert list(found) == [*MEANING, "scenarios", "seed"]
    scenarios = found.pop("scenarios")
    assert {name: each["executions"] for name, each in scenarios.items() if name != "batches"} == dict.fromkeys(
        SELECTION[:4], EXECUTIONS
    )
    assert found.pop("executions") >= EXECUTIONS * len(SELECTION)
    assert found.pop("batches") == BATCHES
    assert found.pop("recovery_p99_s") <= 22 + HINDERED
    assert found.pop("leaked_slot_max_s") <= 10 + HINDERED
    assert 0 < found.pop("event_after_crash_max_s") <= 3 + HINDERED
    assert list(scenarios) == list(SELECTION)
    assert str(found.pop("seed")) in told.stderr
    assert found == dict.fromkeys(found, 0)


@pytest.mark.timeout(SECONDS)
async def test_beside_somebodys_own_work_only_what_is_the_trials_own_is_disturbed(deployment: Deployment) -> None:
    await deployment.register("job", function="tests.system.actions:nothing")
    _, _, worker = await deployment.trio()
    names = {name: getattr(deployment.endpoints, name) for name in ("database_url", "amqp_url")}
    env = {f"INTERLOCK_{name.upper()}": url for name, url in names.items()}
    words = ("--against", "--scenario", "kill-random", "--executions", "60", "--seconds", "6")
    pools = "SELECT array_agg(DISTINCT pool) FROM worker WHERE ended_at IS NULL"
    async with asyncio.TaskGroup() as beside:
        running = beside.create_task(run(*words, INTERLOCK_PREFIX=deployment.topology.prefix, **env))
        await eventually(lambda: _holds_two(deployment, pools), timeout=60)
        ids = await deployment.submit("job", 50)
        assert await deployment.until_ended(ids, timeout=60) == {"completed": 50}
    told, found = running.result()
    assert told.returncode == 0, told.stdout + told.stderr
    assert "only those are disturbed" in told.stderr
    assert (found["executions"], found["lost"], found["overlap"]) == (60, 0, 0)
    # The worker that was there is there, and ran what was asked of it; nothing of the trials can be asked for any more.
    assert worker.child.exit_code is None
    assert {await _runs(deployment, identity) for identity in ids} == {1}
    left = "SELECT count(*) FROM action WHERE withdrawn_at IS NULL AND name <> 'job'"
    assert await deployment.connection.fetchval(left) == 0
    await deployment.until_clean(timeout=20)


async def _runs(deployment: Deployment, identity: Any) -> int:  # noqa: ANN401 - an id
    return len(await deployment.attempts(identity))


async def _holds_two(deployment: Deployment, statement: str) -> bool:
    found = await deployment.connection.fetchval(statement)
    return found is not None and len(found) == 2


async def test_what_would_break_servers_is_refused_beside_somebodys_own_work() -> None:
    told, _ = await run("--against", "--scenario", "broker-wipe")
    assert (told.returncode, "only for a private stack" in told.stderr) == (78, True)


async def test_the_scenarios_are_listed() -> None:
    listed = await asyncio.to_thread(subprocess.run, [*CHAOS, "--list"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert {*SELECTION, "calm", "crash-steps", "freeze", "broker-wipe", "disk-full", "bad-input", "batches"} <= set(
        names
    )


async def test_every_statement_of_the_auditor_prepares_on_a_migrated_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for name in SQL:
            await connection.prepare(SQL[name])
    finally:
        await connection.close()
