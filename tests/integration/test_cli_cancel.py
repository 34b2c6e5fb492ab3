"""`interlock cancel` by what executions have in common: the preview, the question, the chunks, and who wins a race."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from typing import TYPE_CHECKING

import pytest

from interlock.client import Client
from interlock.client.cancels import Selection
from interlock.contract.status import Status
from tests.cli import Interlock, interlock_on
from tests.eventually import eventually

if TYPE_CHECKING:
    from tests.world import World

JOB = "action:job"
CLI = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    return interlock_on(world.url, monkeypatch, capsys)


async def counted(world: World) -> dict[str, int]:
    rows = await world.tx.fetch("SELECT status::text AS status, count(*) AS n FROM execution GROUP BY 1")
    return {row["status"]: row["n"] for row in rows}


async def test_a_dry_run_tells_how_many_of_which_and_changes_nothing(world: World, interlock: Interlock) -> None:
    await world.register("other")
    await world.limit(JOB, 2)
    ids = await world.submit(4)
    ids += await world.submit(2, action="other")
    await world.claim(world.hand, ids[0])
    ended = await world.submit(action="other")
    await world.run(world.hand, *ended)
    said = await interlock("cancel", "--action", "job", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()[:-1]] == [
        ["action", "status", "executions"],
        ["job", "requested", "2"],
        ["job", "running", "1"],
        ["job", "scheduled", "1"],
    ]
    assert said.out.splitlines()[-1] == f"first: {', '.join(map(str, ids[:4]))}"
    told = json.loads((await interlock("cancel", "--older", "0s", "--dry-run", "--json")).out)
    assert (told["preview"]["executions"], told["dry_run"], told["cancelled"]) == (6, True, 0)
    assert told["preview"]["first"] == [str(identity) for identity in ids[:5]]
    assert told["preview"]["shares"][-1] == {"action": "other", "status": "scheduled", "executions": 2}
    assert await counted(world) == {"requested": 2, "scheduled": 3, "running": 1, "completed": 1}


async def test_every_filter_must_fit(world: World, interlock: Interlock) -> None:
    await world.register("other")
    await world.submit(action="other", tags=["x"])
    await world.submit(tags=["y"])
    await world.submit(tags=["x"], pool="else")
    (old,) = await world.submit(tags=["x", "y"])
    await world.tx.execute("UPDATE execution SET requested_at = now() - interval '1 hour' WHERE id = $1", old)
    await world.submit(tags=["x", "y"])
    words = ("--action", "job", "--tag", "x", "--pool", "default", "--status", "scheduled", "--older", "30m")
    told = json.loads((await interlock("cancel", *words, "--yes", "--json", "--reason", "enough")).out)
    assert (told["preview"]["first"], told["cancelled"]) == ([str(old)], 1)
    assert await counted(world) == {"cancelled": 1, "scheduled": 3, "requested": 1}
    assert await world.tx.fetchval("SELECT cancel_reason FROM execution WHERE id = $1", old) == "enough"


async def test_a_queue_is_emptied_in_chunks_and_what_came_later_stays(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 0)
    await world.submit(500)
    await world.submit(500)
    await world.submit(203)
    said = await interlock("cancel", "--status", "requested", "--yes")
    assert (said.code, said.out.splitlines()[-1]) == (0, "cancelled 1,203 of 1,203 executions")
    assert await counted(world) == {"cancelled": 1203}
    assert (await world.key())["waiting"] == 0
    async with Client.connect(world.url) as client:
        await world.submit()
        preview = await client.preview(Selection(action="job"))
        (late,) = await world.submit()
        assert await client.cancel_all(Selection(action="job"), preview.until) == 1
    assert await world.statuses([late]) == ["requested"]
    again = await interlock("cancel", "--action", "no-such", "--yes")
    assert (again.code, again.out, again.err) == (0, "", "no open executions like that\n")


async def test_what_runs_is_told_to_stop_and_its_end_is_its_own(world: World, interlock: Interlock) -> None:
    first, second = await world.submit(2)
    await world.claim(world.hand, first, second)
    said = await interlock("cancel", "--status", "running", "--yes")
    assert (said.code, said.out.splitlines()[-1]) == (0, "cancelled 2 of 2 executions")
    assert await world.statuses([first, second]) == ["cancelling", "cancelling"]
    assert await world.finish(world.hand, first, "completed", "cancelling") == 1
    assert await world.finish(world.hand, second, "cancelled", "cancelling") == 1
    # Interrupted or not, it may be called again.
    assert (await interlock("cancel", "--status", "running", "--yes")).err == "no open executions like that\n"


async def test_without_an_answer_nothing_is_cancelled(world: World, interlock: Interlock) -> None:
    await world.submit(2)
    said = await interlock("cancel", "--action", "job")
    assert said.code == 2
    assert "Cancel 2 executions? Nobody is there to answer; say --yes, or --dry-run to only look" in said.err
    assert await counted(world) == {"scheduled": 2}


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, {"scheduled": 2}), ("y", 0, {"cancelled": 2})])
async def test_on_a_terminal_a_person_is_asked(world: World, answer: str, code: int, left: dict[str, int]) -> None:
    await world.submit(2)
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    process = await asyncio.create_subprocess_exec(
        *CLI, "cancel", "--action", "job",
        env={**env, "INTERLOCK_DATABASE_URL": world.url}, stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        said = b""
        while b"Cancel 2 executions? [y/N]" not in said:
            said += await asyncio.to_thread(os.read, ours, 1000)
        os.write(ours, f"{answer}\n".encode())
        assert await asyncio.wait_for(process.wait(), 30) == code
    finally:
        os.close(ours)
    assert await counted(world) == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give ids, or choose by --action, --status, --tag, --pool or --older"),
        (("7919f56f", "--action", "job"), "give ids, or what the executions have in common, not both"),
        (("7919f56f", "--dry-run"), "give ids, or what the executions have in common, not both"),
        (("--status", "completed"), "what is completed cannot be cancelled"),
        (("--older", "soon"), "is not a duration"),
        (("--action", "job", "--reason", ""), "give 1 to 1000 characters"),
    ],
)
async def test_what_makes_no_sense_is_refused(interlock: Interlock, words: tuple[str, ...], message: str) -> None:
    said = await interlock("cancel", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert message in said.err


@pytest.mark.parametrize(
    ("statuses", "end"), [((Status.SCHEDULED,), "running"), ((Status.SCHEDULED, Status.RUNNING), "cancelling")]
)
async def test_what_a_worker_begins_during_a_cancel_of_what_is_scheduled_is_not_meant_by_it(
    world: World, statuses: tuple[Status, ...], end: str
) -> None:
    (identity,) = await world.submit()
    selection = Selection(statuses=statuses)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with Client.connect(world.url) as client, world.another() as other:
        preview = await client.preview(selection)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group, other.tx.transaction():
            assert await other.claim(world.hand, identity) == 1
            cancelling = group.create_task(client.cancel_all(selection, preview.until))
            await eventually(lambda: world.tx.fetchval(blocked))
        moved = cancelling.result()
    assert (await world.statuses([identity]), moved) == ([end], int(end == "cancelling"))


@pytest.mark.parametrize(("statuses", "end"), [((Status.REQUESTED,), "scheduled"), (Selection().statuses, "cancelled")])
async def test_who_is_admitted_during_a_cancel_of_what_waits_is_not_meant_by_it(
    world: World, statuses: tuple[Status, ...], end: str
) -> None:
    await world.limit(JOB, 0)
    (identity,) = await world.submit()
    selection = Selection(statuses=statuses)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with Client.connect(world.url) as client, world.another() as other:
        preview = await client.preview(selection)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group, other.tx.transaction():
            await other.limit(JOB, 1)
            cancelling = group.create_task(client.cancel_all(selection, preview.until))
            await eventually(lambda: world.tx.fetchval(blocked))
        moved = cancelling.result()
    assert (await world.statuses([identity]), moved) == ([end], int(end == "cancelled"))
