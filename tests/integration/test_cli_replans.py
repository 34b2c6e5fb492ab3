"""`interlock batch restart --replan`: the difference is shown first, and nothing is done that nobody agreed to."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from typing import TYPE_CHECKING

import pytest

from interlock.contract.identity import child_id
from tests.batches import counts, status
from tests.cli import Interlock, Said, interlock_on
from tests.eventually import eventually
from tests.replans import stage
from worker.outcome import failed

if TYPE_CHECKING:
    from tests.replans import Stage
    from tests.world import World

CLI = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage."""
    return interlock_on(world.url, monkeypatch, capsys)


def short(identity: object) -> str:
    return str(identity)[-8:]


async def plan_what_is_asked_for(it: Stage) -> None:
    """Be the worker that makes the next plan that is asked for."""

    async def asked() -> bool:
        waits = "SELECT EXISTS (SELECT 1 FROM batch_preview WHERE planned_at IS NULL)"
        return bool(await it.world.tx.fetchval(waits))

    await eventually(asked)
    await it.plans(await it.world.tx.fetchval("SELECT plan_id FROM batch_preview"))


async def anew(it: Stage, interlock: Interlock, *words: str) -> Said:
    """Restart with another plan, which a worker makes meanwhile."""
    said, _ = await asyncio.gather(
        interlock("batch", "restart", short(it.batch), "--replan", *words), plan_what_is_asked_for(it)
    )
    # Of both, since they run in this process: what the worker logs is not what the command says.
    return said._replace(out="".join(line for line in said.out.splitlines(keepends=True) if "[info " not in line))


async def test_without_a_terminal_the_difference_is_shown_and_how_to_go_on(world: World, interlock: Interlock) -> None:
    async with stage(world) as it:
        await it.ended([1, 2, 3], **{"3": "failed"})
        before = await it.rows()
        it.plan = [2, 3, 4, 5]
        said = await anew(it, interlock, "--only", "failed")
        assert said.code == 2
        rows = [line.split() for line in said.out.splitlines()]
        assert ["new", "2", "4,", "5"] in rows
        assert ["gone", "1", "1"] in rows
        assert ["the", "same", "2", "2,", "3"] in rows
        assert ["made", "again", "1", "3"] in rows
        assert said.out.splitlines()[-1] == "3 partitions now, 4 with this plan, 3 of them to make"
        assert await it.rows() == before
        # The line says how to do exactly what was shown; the planner is not asked again.
        it.plan = ["something else"]
        command = said.err.partition("nothing was changed; to do this: `interlock ")[2].partition("`")[0].split()
        done = await interlock(*command)
        assert (done.code, done.out.splitlines()[-1]) == (
            0,
            f"{short(it.batch)} is running again in epoch 2: 3 to make, 1 gone",
        )
        await it.plans(child_id(it.batch, 2, "$plan"))
        assert set(await it.present()) == {"2", "3", "4", "5"}
        assert await counts(world, it.batch) == {"total": 4, "completed": 1}
        again = await interlock(*command)
        assert again.code == 1
        assert "is running: cancel it, or wait for its end" in again.err


async def test_with_yes_it_is_done_at_once_and_as_json_it_is_one_document(world: World, interlock: Interlock) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        it.plan = [2, 3]
        told = json.loads((await anew(it, interlock, "--dry-run", "--json")).out)
        assert told["difference"]["new"] == {"partitions": 1, "keys": ["3"]}
        assert told["difference"]["gone"] == {"partitions": 1, "keys": ["1"]}
        assert told["difference"]["same"] == {"partitions": 1, "keys": ["2"]}
        assert (told["applied"], told["restarted"], told["epoch"], told["dry_run"]) == (False, 0, 1, True)
        told = json.loads((await anew(it, interlock, "--json")).out)
        assert (told["applied"], told["epoch"]) == (False, 1)
        told = json.loads((await anew(it, interlock, "--yes", "--json")).out)
        assert (told["applied"], told["restarted"], told["gone"], told["epoch"]) == (True, 1, 1, 2)


async def test_the_same_plan_is_nothing_to_do(world: World, interlock: Interlock) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        said = await anew(it, interlock, "--yes")
        assert (said.code, said.out.splitlines()[-1]) == (0, "nothing to do: it is the same plan")
        assert await status(world, it.batch) == "completed"


async def test_a_plan_that_cannot_be_made_is_told_and_leaves_the_batch(world: World, interlock: Interlock) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        before = await it.rows()
        it.outcome = failed("ExitCode", "exited with 1")
        said = await anew(it, interlock, "--yes")
        assert (said.code, said.out) == (1, "")
        assert said.err.endswith("anew has failed, nothing was changed: ExitCode: exited with 1\n")
        assert await it.rows() == before


async def test_what_does_not_fit_together_is_refused(world: World, interlock: Interlock) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        said = await interlock("batch", "restart", it.batch, "--preview", "cafe")
        assert said.code == 2
        assert "belongs to --replan" in said.err
        said = await anew(it, interlock, "--only", "key=seven")
        assert (said.code, said.out) == (1, "")
        assert "no partition of batch" in said.err
        assert "is called 'seven'" in said.err


@pytest.mark.parametrize(("answer", "epoch"), [("y", 2), ("n", 1)])
async def test_on_a_terminal_it_asks(world: World, answer: str, epoch: int) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        it.plan = [2, 3]
        mine, theirs = pty.openpty()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        process = await asyncio.create_subprocess_exec(
            *CLI, "batch", "restart", str(it.batch), "--replan",
            env=clean | {"INTERLOCK_DATABASE_URL": world.url, "COLUMNS": "160"},
            stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        os.close(theirs)
        await plan_what_is_asked_for(it)
        os.write(mine, f"{answer}\n".encode())
        out, err = await asyncio.wait_for(process.communicate(), 30)
        os.close(mine)
        assert "gone" in out.decode()
        assert f"Restart {short(it.batch)} with this plan?" in err.decode()
        assert process.returncode == (0 if answer == "y" else 1)
        assert await world.tx.fetchval("SELECT epoch FROM batch") == epoch
