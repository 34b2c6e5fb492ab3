"""`interlock queues`, `pools` and `explain`, in this process and as a process of its own, on a real database."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from interlock.cli.app import main
from tests.cli import Interlock, Said
from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from tests.world import World

JOB = "action:job"
CLI = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", world.url)

    async def run(*words: object) -> Said:
        # In a thread of its own, as a command has an event loop of its own.
        code = await asyncio.to_thread(main, [str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


async def started(world: World, *words: object, terminal: int | None = None) -> Process:
    """Start one command as a process, to be interrupted; on a terminal if one is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "NO_COLOR"))}
    env = {**clean, "INTERLOCK_DATABASE_URL": world.url, "TERM": "xterm-256color", "COLUMNS": "160"}
    stream = asyncio.subprocess.PIPE if terminal is None else terminal
    return await asyncio.create_subprocess_exec(*CLI, *map(str, words), env=env, stdout=stream, stderr=stream)


def cells(said: Said) -> list[list[str]]:
    """Return the words of each line of a table."""
    return [line.split() for line in said.out.splitlines()]


async def test_show_lists_keys_with_their_bounds_and_figures(world: World, interlock: Interlock) -> None:
    await world.set_queue(JOB, lim=2, rate_every=0.1, rate_burst=20, cap=9, cap_policy="drop_oldest")
    await world.limit("key:shut", 0, paused=True)
    await world.submit(3)
    said = await interlock("queues", "show")
    assert (said.code, said.err) == (0, "")
    head, job, shut = said.out.splitlines()
    assert head.split("  ")[0] == "queue"
    assert job.startswith("action:job  2, 10/s burst 20, cap 9 drop_oldest  2       1        ")
    assert job.split()[-6:] == ["2", "0", "0", "<1ms", "<1ms", "<1ms"]
    assert shut.split() == ["key:shut", "0", "0", "0", "-", "0", "0", "0", "-", "-", "-", "paused,", "closed"]


async def test_show_as_json_has_every_field_and_only_the_keys_asked_for(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 1)
    await world.limit("key:other", 1)
    ids = await world.submit(2)
    since = await world.tx.fetchval("SELECT since FROM waiting WHERE execution_id = $1", ids[1])
    (told,) = json.loads((await interlock("queues", "show", JOB, "--json")).out)
    assert told.pop("oldest_waiting") == since.isoformat().replace("+00:00", "Z")
    assert told == {
        "scope": "leaf",
        "name": JOB,
        "limit": 1,
        "rate": None,
        "burst": None,
        "cap": None,
        "cap_policy": "reject",
        "paused": False,
        "template": None,
        "active": 1,
        "waiting": 1,
        "wake_at": None,
        "admitted": 1,
        "finished": 0,
        "cancelled": 0,
        "wait_p50": 0.001,
        "wait_p95": 0.001,
        "wait_p99": 0.001,
    }


async def test_show_tells_what_drains_and_when_a_rate_goes_on(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 2)
    await world.set_queue("key:slow", rate_every=3600)
    await world.submit(2, concurrency_key="slow")
    await world.submit(2)
    await world.limit(JOB, 1)
    said = await interlock("queues", "show")
    assert said.out.splitlines()[1].endswith("drains")
    assert "  next in 59m " in said.out.splitlines()[2]


async def test_an_empty_list_says_what_to_do_and_all_shows_what_was(world: World, interlock: Interlock) -> None:
    await world.submit()
    said = await interlock("queues", "show")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("no key bounds anything or is in use: ")
    assert [line[0] for line in cells(await interlock("queues", "show", "--all"))] == ["queue", JOB]


async def test_limit_changes_a_key_and_admits(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(3)
    said = await interlock("queues", "limit", JOB, 2)
    assert said == (0, "action:job is open: limit 2; active 2, waiting 1\n", "")
    said = await interlock("queues", "limit", JOB, "none", "--json")
    told = json.loads(said.out)
    assert (told["limit"], told["active"], told["waiting"]) == (None, 3, 0)
    assert await world.statuses(ids) == ["scheduled"] * 3
    said = await interlock("queues", "limit", JOB, 0)
    assert said.out == "action:job is closed: limit 0; active 3, waiting 0\n"


async def test_limit_takes_every_bound_and_takes_it_away(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 1)
    words = ("--rate", "100/5m", "--burst", 3, "--cap", 7, "--cap-policy", "drop_oldest")
    said = await interlock("queues", "limit", JOB, 5, *words)
    assert said.out == "action:job is open: limit 5, 20/m burst 3, cap 7 drop_oldest; active 0, waiting 0\n"
    said = await interlock("queues", "limit", JOB, "--rate", "none", "--cap", "none")
    assert said.out == "action:job is open: limit 5; active 0, waiting 0\n"


async def test_limiting_what_nobody_has_had_yet_says_so(world: World, interlock: Interlock) -> None:
    said = await interlock("queues", "limit", "customer/42", 3)
    assert said.code == 0
    assert said.err == "customer/42 is new: no execution has had this key yet\n"
    assert (await interlock("queues", "limit", "customer/42", 2)).err == ""
    assert (await world.key("customer/42"))["lim"] == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("queues", "show", "action:jbo"), 1, 'no queue is called "action:jbo"; did you mean "action:job"?'),
        (("queues", "limit", "job", "3"), 1, 'no queue is called "job"; did you mean "action:job"?'),
        (("queues", "limit", "batch:1", "3"), 1, 'a key cannot begin with "batch:"'),
        (("queues", "limit", JOB, "--burst", "3"), 1, "burst is how many a rate lets through at once"),
        (("queues", "limit", JOB), 2, "say what to change: a number, --rate, --burst, --cap or --cap-policy"),
        (("queues", "limit", JOB, "many"), 2, "'many' is neither a number from 0 on nor \"none\""),
        (("queues", "limit", JOB, "--cap", "1.5"), 2, "'1.5' is neither a number from 0 on nor \"none\""),
        (("queues", "limit", JOB, "--rate", "often"), 2, '"often" is not a rate; write a number per time'),
        (("queues", "limit", JOB, "--cap-policy", "drop"), 2, "'drop' is not one of"),
        (("queues", "limit", JOB, "99999999999"), 1, "limit: input should be less than or equal to 1000000"),
        (("queues", "pause", "action:jbo"), 1, 'did you mean "action:job"?'),
        (("queues", "resume", "nothing"), 1, 'no queue is called "nothing"'),
        (("queues", "pause"), 2, "Missing argument 'NAME'; see `interlock queues pause --help`"),
        (("queues", "pasue", JOB), 2, "unknown command 'pasue'; did you mean \"pause\"?"),
        (("pools", "pause", "defualt"), 1, 'no pool is called "defualt"; did you mean "default"?'),
        (("pools", "resume", "nobody"), 1, 'no pool is called "nobody"; `interlock pools show` lists them'),
        (("explain", "beefbeef"), 1, "no execution has an id that begins or ends with 'beefbeef'"),
        (("explain", "0192b0a0-0000-7000-8000-000000000000"), 1, "no execution 0192b0a0-0000-7000-8000-000000000000"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_line_with_its_exit_code(
    world: World, interlock: Interlock, words: tuple[str, ...], code: int, message: str
) -> None:
    await world.limit(JOB, 1)
    said = await interlock(*words)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert [row["name"] for row in await world.tx.fetch("SELECT name FROM queue")] == [JOB]


async def test_a_key_is_paused_and_resumed(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    said = await interlock("queues", "pause", JOB)
    assert said == (0, "action:job is paused: limit 1; active 1, waiting 1\n", "")
    await world.end(ids[0])
    assert await world.statuses(ids) == ["completed", "requested"]
    said = await interlock("queues", "resume", JOB)
    assert said == (0, "action:job is open: limit 1; active 1, waiting 0\n", "")


async def test_pausing_with_drain_ends_when_the_last_slot_came_back(world: World, interlock: Interlock) -> None:
    ids = await world.submit(2)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        draining = group.create_task(interlock("queues", "pause", JOB, "--drain", "--json"))
        await eventually(lambda: _paused(world, JOB, "leaf"))
        for identity in ids:
            await world.end(identity)
    told = json.loads(draining.result().out)
    assert (draining.result().code, told["paused"], told["active"]) == (0, True, 0)


async def _paused(world: World, name: str, scope: str) -> bool:
    query = "SELECT paused FROM queue WHERE name = $1 AND scope = $2"
    return bool(await world.tx.fetchval(query, name, scope))


@pytest.mark.parametrize(
    ("words", "shown", "last"),
    [
        (
            ("queues", "pause", JOB),
            "action:job is paused; 1 still hold a slot",
            "action:job is paused: limit none; active 0, waiting 0",
        ),
        (
            ("pools", "pause", "default"),
            "pool default is paused; 1 still in flight",
            "pool default is paused: running 0, scheduled 0, waiting 0",
        ),
    ],
)
async def test_a_drain_on_a_terminal_shows_how_many_are_left(
    world: World, words: tuple[str, ...], shown: str, last: str
) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    mine, theirs = pty.openpty()
    process = await started(world, *words, "--drain", terminal=theirs)
    os.close(theirs)
    await _read_until(mine, shown)
    await world.finish(world.hand, identity)
    await world.admit(ended=[identity])
    await _read_until(mine, last)
    assert await process.wait() == 0
    os.close(mine)


@pytest.mark.parametrize(
    ("words", "shown", "message"),
    [
        (
            ("queues", "pause", JOB),
            "still hold a slot",
            "action:job stays paused: `interlock queues resume action:job` lets it go on",
        ),
        (
            ("pools", "pause", "default"),
            "still in flight",
            "pool default stays paused: `interlock pools resume default` lets it go on",
        ),
    ],
)
async def test_interrupting_a_drain_leaves_it_paused_and_says_so(
    world: World, words: tuple[str, ...], shown: str, message: str
) -> None:
    await world.claim(world.hand, *await world.submit(1))
    mine, theirs = pty.openpty()
    process = await started(world, *words, "--drain", terminal=theirs)
    os.close(theirs)
    await _read_until(mine, shown)
    process.send_signal(signal.SIGINT)
    await _read_until(mine, message)
    assert await process.wait() == 130
    os.close(mine)
    assert await _paused(world, words[-1], "leaf" if words[0] == "queues" else "pool")


async def _read_until(terminal: int, text: str) -> str:
    """Return what a terminal showed up to `text`."""
    shown = ""
    async with asyncio.timeout(30):
        while text not in shown:
            shown += (await asyncio.to_thread(os.read, terminal, 65536)).decode()
    return shown


async def test_pools_are_shown_paused_and_resumed(world: World, interlock: Interlock) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1")
    leaving = await world.worker()
    await world.tx.execute("UPDATE worker SET draining = true WHERE id = $1", leaving)
    ids = await world.submit(3)
    await world.claim(world.hand, ids[0])
    await world.submit(pool="gpu")
    head, default, gpu = cells(await interlock("pools", "show"))
    assert head == ["pool", "workers", "capacity", "running", "scheduled", "room", "waiting", "oldest"]
    assert (default[:7], default[8:]) == (["default", "1", "1", "1", "1", "0", "1"], ["1", "draining"])
    assert (gpu[:7], gpu[8:]) == (["gpu", "0", "0", "0", "0", "0", "1"], ["no", "worker"])

    said = await interlock("pools", "pause", "default")
    assert said == (0, "pool default is paused: running 1, scheduled 0, waiting 2\n", "")
    told = {each["name"]: each for each in json.loads((await interlock("pools", "show", "--json")).out)}
    assert told["default"]["paused"] is True
    assert sorted(told["gpu"]) == sorted(
        (
            "name",
            "paused",
            "workers",
            "draining",
            "capacity",
            "running",
            "scheduled",
            "room",
            "waiting",
            "oldest_waiting",
        )
    )
    said = await interlock("pools", "resume", "default")
    assert said == (0, "pool default is open: running 1, scheduled 1, waiting 1\n", "")


async def test_pausing_a_pool_with_drain_ends_when_nothing_is_in_flight(world: World, interlock: Interlock) -> None:
    ids = await world.submit(2)
    await world.claim(world.hand, ids[0])
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        draining = group.create_task(interlock("pools", "pause", "default", "--drain"))
        await eventually(lambda: _paused(world, "default", "pool"))
        await world.finish(world.hand, ids[0])
    assert draining.result() == (0, "pool default is paused: running 0, scheduled 0, waiting 1\n", "")


async def test_explain_says_the_sentence_the_facts_and_the_holders(world: World, interlock: Interlock) -> None:
    await world.limit(JOB, 21)
    ids = await world.submit(24)
    await world.claim(world.hand, ids[0])
    said = await interlock("explain", str(ids[23])[-8:])
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    short = str(ids[23])[-8:]
    assert lines[0] == (f"{short} job is requested: waits for a slot of action:job, 21 of 21 taken, behind 2 others")
    facts = [line.split() for line in lines[2 : lines.index("", 2)]]
    assert [fact[0] for fact in facts] == ["reason", "since", "position", "ahead", "key", "limit", "active"]
    assert [fact[1] for fact in facts][2:] == ["3", "2", JOB, "21", "21"]
    assert "who holds action:job" in lines
    assert sum(str(world.hand) in line for line in lines) == 1
    assert lines[-1] == "and 1 more"


async def test_explain_as_json_has_the_code_and_the_facts(world: World, interlock: Interlock) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    told = json.loads((await interlock("explain", identity, "--json")).out)
    assert (told["id"], told["status"], told["reason"]) == (str(identity), "running", "running")
    assert (told["worker_id"], told["holders"], told["position"]) == (str(world.hand), [], None)
    await world.finish(world.hand, identity)
    told = json.loads((await interlock("explain", identity, "--json")).out)
    assert (told["reason"], told["sentence"]) == ("ended", "ended as completed")


async def test_explain_for_every_pool_fact_fits_its_lines(world: World, interlock: Interlock) -> None:
    await world.tx.execute("UPDATE worker SET capacity = 1")
    ids = await world.submit(3)
    facts = dict(line.split("  ", 1) for line in (await interlock("explain", ids[2])).out.splitlines()[2:])
    told = {name: value.strip() for name, value in facts.items()}
    assert (told["pool"], told["workers"], told["in flight"]) == ("default", "1", "0 running, 2 scheduled")
    assert (told["position"], told["ahead"]) == ("1 in its lane", "0")


async def test_watching_an_explanation_prints_each_change_and_ends_with_the_execution(
    world: World, interlock: Interlock
) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        watching = group.create_task(interlock("explain", ids[1], "--watch", "--json"))
        await eventually(lambda: _client_is_there(world))
        await world.end(*ids[:1])
        await world.run(world.hand, ids[1])
        await world.admit(ended=[ids[1]])
    told = [json.loads(line) for line in watching.result().out.splitlines()]
    assert watching.result().code == 0
    assert told[-1]["reason"] == "ended"
    assert len({json.dumps(each) for each in told}) == len(told)


async def _client_is_there(world: World) -> bool:
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'interlock-client' AND datname = current_database()"
    )
    return await world.tx.fetchval(query) is not None


@pytest.mark.parametrize("what", ["queues", "pools"])
async def test_watching_as_json_prints_one_object_for_each_change(world: World, what: str) -> None:
    await world.limit(JOB, 1)
    process = await started(world, what, "show", "--watch", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        if what == "queues":
            assert json.loads(await process.stdout.readline())["waiting"] == 0
        else:
            assert json.loads(await process.stdout.readline())["scheduled"] == 0
        await world.submit(2)
        told = json.loads(await process.stdout.readline())
    assert (told["waiting"], told["name"]) == (1, JOB if what == "queues" else "default")
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    assert (process.returncode, out) == (130, b"")


@pytest.mark.parametrize("words", [("queues", "show"), ("pools", "show"), ("explain", None)])
async def test_watching_on_a_terminal_draws_over_what_was_there(world: World, words: tuple[str | None, ...]) -> None:
    await world.limit(JOB, 1)
    ids = await world.submit(2)
    mine, theirs = pty.openpty()
    process = await started(world, *(word or ids[1] for word in words), "--watch", terminal=theirs)
    os.close(theirs)
    shown = ""
    while shown.count("\x1b[2J") < 3:
        shown += await _read_until(mine, "\x1b[2J")
    process.send_signal(signal.SIGINT)
    code, _ = await asyncio.gather(process.wait(), asyncio.to_thread(_drain, mine))
    os.close(mine)
    assert code == 130
    first, second = shown.split("\x1b[2J")[1:3]
    wanted = {"queues": JOB, "pools": "default", "explain": "waits for a slot of action:job"}[str(words[0])]
    assert wanted in first
    assert wanted in second


def _drain(terminal: int) -> None:
    """Read a terminal until its other end is closed."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return  # What Linux says of a terminal whose other end is closed.


async def test_what_a_full_queue_refuses_is_told_once_with_its_number(world: World, interlock: Interlock) -> None:
    await world.set_queue(JOB, lim=0, cap=2)
    said = await interlock("run", "job", "--count", 5)
    assert (said.code, len(said.out.splitlines())) == (1, 2)
    assert said.err == "interlock: refused: action:job is full: 2 wait and no more may (3 executions)\n"


async def test_a_concurrency_key_is_given_on_the_command_line(world: World, interlock: Interlock) -> None:
    await world.limit("key:printer", 1)
    said = await interlock("run", "job", "--count", 3, "--concurrency-key", "printer")
    assert said.code == 0
    assert len(await world.slots("key:printer")) == 1
    assert (await world.key("key:printer"))["waiting"] == 2
