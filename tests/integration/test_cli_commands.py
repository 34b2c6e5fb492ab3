"""The command line in this process, on a real database: what it prints, and the exit code."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.cli.app import main
from interlock.contract.status import Status
from tests.cli import Interlock, Said
from tests.eventually import eventually
from tests.factory import end_execution, make_action, make_execution, make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own look at the database; the action `job` is registered."""
    connection = await asyncpg.connect(database_url)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "text": {"type": "string"}}}
    await make_action(connection, params={**schema, "additionalProperties": False}, description="A job")
    yield connection
    await connection.close()


@pytest.fixture
def interlock(
    database_url: str,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Interlock:
    """Run one command on this test's database; returns its exit code and what it said."""
    del connection
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", database_url)

    async def run(*words: object) -> Said:
        # In a thread of its own, as a command has an event loop of its own.
        code = await asyncio.to_thread(main, [str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


async def test_a_run_prints_the_id_and_the_row_is_there(interlock: Interlock, connection: asyncpg.Connection) -> None:
    said = await interlock("run", "job", "-p", "n=4", "-p", "text=5", "--tag", "x", "--tag", "y", "--priority", "-7")
    assert (said.code, said.err) == (0, "")
    row = await connection.fetchrow("SELECT id::text, params::text, tags::text, priority FROM execution")
    assert row is not None
    assert said.out == f"{row['id']}\n"
    assert (json.loads(row["params"]), row["tags"], row["priority"]) == ({"n": 4, "text": "5"}, '["x", "y"]', -7)


async def test_a_run_of_many_prints_one_json_line_each(interlock: Interlock, connection: asyncpg.Connection) -> None:
    said = await interlock("run", "job", "--count", 3, "--params", '{"n": 1}', "-p", "n:=2", "--json")
    assert said.code == 0
    ids = [json.loads(line) for line in said.out.splitlines()]
    rows = await connection.fetch("SELECT id::text, params ->> 'n' AS n FROM execution ORDER BY id")
    assert ids == [{"id": row["id"], "action": "job"} for row in rows]
    assert [row["n"] for row in rows] == ["2", "2", "2"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "jbo"), 1, "action 'jbo' is not registered; did you mean \"job\"?"),
        (("run", "job", "-p", "txet=1"), 1, 'params.txet is unknown; did you mean "text"?'),
        (("run", "job", "-p", "n=x"), 1, "params.n: "),
        (("run", "job", "-p", "n"), 1, "-p 'n': write name=text, or name:=json"),
        (("run", "job", "-p", "n:=x"), 1, "-p n:=x: not JSON: "),
        (("run", "job", "--params", "[]"), 1, "--params: parameters are a JSON object"),
        (("run", "job", "--params", "@/nowhere"), 1, "--params @/nowhere: cannot be read: "),
        (("run", "job", "--count", "2", "--key", "k"), 2, "one key is one execution"),
        (("run", "job", "--priority", "101"), 2, "see `interlock run --help`"),
        (("run",), 2, "Missing argument 'ACTION'; see `interlock run --help`"),
        (("rnu", "job"), 2, "unknown command 'rnu'; did you mean \"run\"?"),
        (("actions", "chekc"), 2, "unknown command 'chekc'; did you mean \"check\"?"),
        (("show", "beefbeef"), 1, "no execution has an id that begins or ends with 'beefbeef'"),
        (("show", "nonsense"), 1, "'nonsense' is not an id"),
        (("show", "0192b0a0-0000-7000-8000-000000000000"), 1, "no execution 0192b0a0-0000-7000-8000-000000000000"),
        (("watch", "0192b0a0-0000-7000-8000-000000000000"), 1, "no execution 0192b0a0-0000-7000-8000-000000000000"),
        (("cancel",), 2, "give ids, or choose by --action, --status, --tag, --pool or --older"),
        (("cancel", "beefbeef"), 1, "no execution has an id that begins or ends with 'beefbeef'"),
        (("list", "--status", "done"), 2, "'done' is not one of"),
        (("actions", "check"), 78, "INTERLOCK_ACTIONS: not set"),
        (("actions", "check", "/nowhere"), 78, "/nowhere: there is no such folder"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_line_with_its_exit_code(
    interlock: Interlock, connection: asyncpg.Connection, words: tuple[str, ...], code: int, message: str
) -> None:
    said = await interlock(*words)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert await connection.fetchval("SELECT count(*) FROM execution") == 0


async def test_an_idempotency_key_leads_to_the_first_execution_or_to_a_conflict(interlock: Interlock) -> None:
    first = await interlock("run", "job", "--key", "k")
    again = await interlock("run", "job", "--key", "k")
    other = await interlock("run", "job", "--key", "k", "-p", "n=1")
    assert (again.code, again.out) == (0, first.out)
    assert again.err == f"interlock: requested before, as execution {first.out}"
    assert (other.code, other.out) == (1, "")
    assert "idempotency key 'k' belongs to execution" in other.err


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([Status.COMPLETED], 0),
        ([Status.COMPLETED, Status.SKIPPED], 0),
        ([Status.COMPLETED, Status.PARTIAL], 1),
        ([Status.TIMED_OUT, Status.FAILED], 1),
        ([Status.TIMED_OUT, Status.COMPLETED], 124),
    ],
)
async def test_waiting_ends_with_the_exit_code_of_the_worst_end(
    interlock: Interlock, connection: asyncpg.Connection, ends: list[Status], code: int
) -> None:
    await make_worker(connection)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(interlock("run", "job", "--count", len(ends), "--wait", "--json"))
        await eventually(lambda: _scheduled(connection, len(ends)))
        for row, end in zip(await connection.fetch("SELECT id FROM execution ORDER BY id"), ends, strict=True):
            await end_execution(connection, row["id"], end, result={"done": True})
    said = waiting.result()
    assert said.code == code
    told = [json.loads(line) for line in said.out.splitlines()]
    assert [(each["status"], each["result"]) for each in told] == [(end, {"done": True}) for end in ends]


async def _scheduled(connection: asyncpg.Connection, count: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = $1 FROM execution WHERE status = 'scheduled'", count))


async def test_waiting_for_one_shows_how_it_ended_and_its_result(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    await make_worker(connection)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(interlock("run", "job", "--wait"))
        await eventually(lambda: _scheduled(connection, 1))
        identity = await connection.fetchval("SELECT id FROM execution")
        await end_execution(connection, identity, result={"answer": 42})
    first, *result = waiting.result().out.splitlines()
    assert first.startswith(f"{str(identity)[-8:]} job completed ")
    assert result == ["{", '  "answer": 42', "}"]


async def test_a_cancelled_wait_is_130_and_one_that_takes_too_long_is_124(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    late = await interlock("run", "job", "--wait", "--timeout", 0.1)
    assert late.code == 124
    assert late.err == "stopped waiting after 100ms; the executions go on\n"
    identity = await connection.fetchval("SELECT id FROM execution")
    assert (await interlock("cancel", str(identity)[:13])).code == 0
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(interlock("run", "job", "--wait", "--count", "2"))
        await eventually(lambda: _open(connection))
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM execution WHERE status = 'requested'")]
        await connection.fetch(
            "SELECT decided FROM admit('{}', '{}', $1, '{NULL,NULL}', $2::text[]::status[], 'x', '{}', 9, '/client/x')",
            ids,
            ["cancelled"] * 2,
        )
    assert (waiting.result().code, waiting.result().out.splitlines()[0]) == (130, "2 cancelled")


async def _open(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = 2 FROM execution WHERE status = 'requested'"))


async def test_cancel_says_what_became_of_each(interlock: Interlock, connection: asyncpg.Connection) -> None:
    waiting = (await interlock("run", "job")).out.strip()
    running = await make_execution(connection, status=Status.RUNNING)
    said = await interlock("cancel", waiting[-8:], running, "--reason", "enough")
    assert (said.code, said.out) == (0, f"{waiting[-8:]} is cancelled\n{str(running)[-8:]} is cancelling\n")
    again = await interlock("cancel", waiting)
    assert (again.code, again.out) == (0, f"{waiting[-8:]} is cancelled already\n")

    ended = await make_execution(connection, status=Status.COMPLETED)
    said = await interlock("cancel", ended, "--json")
    assert said.code == 1
    assert json.loads(said.out) == {"id": str(ended), "status": "completed", "moved": False, "forced": False}
    unknown = "0192b0a0-0000-7000-8000-000000000000"
    said = await interlock("cancel", unknown)
    assert (said.code, said.out.partition(":")[0]) == (1, unknown)


async def test_an_ambiguous_id_lists_its_candidates(interlock: Interlock, connection: asyncpg.Connection) -> None:
    ids = [await make_execution(connection) for _ in range(2)]
    said = await interlock("show", str(ids[0])[:6])
    assert said.code == 1
    assert all(str(identity) in said.err for identity in ids)


async def test_show_tells_everything(interlock: Interlock, connection: asyncpg.Connection) -> None:
    identity = await make_execution(connection, status=Status.FAILED, params={"n": 1}, tags=("x",))
    said = await interlock("show", str(identity)[-8:])
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["id", str(identity)]
    assert lines[1].split() == ["status", "failed"]
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == ["1", "2", "3", "4", "1"]
    assert '  "message": "made by a test"' in lines

    told = json.loads((await interlock("show", identity, "--json")).out)
    assert told["execution"]["id"] == str(identity)
    assert [move["target"] for move in told["transitions"]] == ["requested", "scheduled", "running", "failed"]
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["failed"]


async def test_list_shows_the_end_of_ids_and_pages_by_cursor(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    assert (await interlock("list")).err == "no executions yet: `interlock run ACTION`\n"
    ids = [
        await make_execution(connection, status=status) for status in (Status.RUNNING, Status.FAILED, Status.RUNNING)
    ]
    said = await interlock("list", "--status", "running", "--limit", 1)
    assert [line.split()[:3] for line in said.out.splitlines()] == [
        ["id", "status", "action"],
        [str(ids[2])[-8:], "running", "job"],
    ]
    assert said.err == f"more: --cursor {ids[2]}\n"
    page = json.loads((await interlock("list", "--cursor", ids[2], "--json")).out)
    assert ([item["id"] for item in page["items"]], page["cursor"]) == ([str(ids[1]), str(ids[0])], None)


async def test_watch_prints_moves_as_they_come_until_the_end(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    identity = await make_execution(connection, status=Status.SCHEDULED)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        watching = group.create_task(interlock("watch", identity, "--json"))
        await eventually(lambda: _client_is_there(connection))
        await end_execution(connection, identity)
    moves = [json.loads(line)["target"] for line in watching.result().out.splitlines()]
    assert (watching.result().code, moves) == (0, ["requested", "scheduled", "running", "completed"])


async def _client_is_there(connection: asyncpg.Connection) -> bool:
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'interlock-client' AND datname = current_database()"
    )
    return await connection.fetchval(query) is not None


async def test_logs_are_followed_to_the_end_over_all_attempts(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    identity = await make_execution(connection, status=Status.SCHEDULED)
    insert = "INSERT INTO execution_log VALUES ($1, $2, $3, $4, $5, now())"
    await connection.execute(insert, identity, 1, 1, "stdout", "first")
    assert (await interlock("logs", identity)).out == "first\n"
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        following = group.create_task(interlock("logs", identity, "-f"))
        await eventually(lambda: _client_is_there(connection))
        await connection.execute(insert, identity, 2, 1, "mark", "cut")
        await connection.execute(insert, identity, 2, 2, "stderr", "last")
        await end_execution(connection, identity)
    assert following.result()[:2] == (0, "first\n[cut]\nlast\n")


async def test_actions_are_checked_applied_and_listed(interlock: Interlock, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("action: job\ncommand: [true-ish]\nlimit: 3\nretyr: 1\n")
    said = await interlock("actions", "check", tmp_path)
    assert (said.code, said.err) == (78, f'{file}:4: retyr: unknown field; did you mean "retry"?\n')
    said = await interlock("actions", "check", tmp_path, "--json")
    problem = {"file": str(file), "line": 4, "message": 'retyr: unknown field; did you mean "retry"?'}
    assert (said.code, json.loads(said.out)) == (78, {"valid": False, "problems": [problem]})

    file.write_text("action: job\ncommand: [true-ish]\nlimit: 3\n---\naction: new\ncommand: [x]\n")
    assert (await interlock("actions", "check", tmp_path)).code == 0
    said = await interlock("actions", "apply", tmp_path)
    assert (said.code, said.out) == (0, "added: new\nchanged: job\nlimit of action:job: 3\n")
    assert (await interlock("actions", "apply", tmp_path)).out == "unchanged: job, new\n"
    listed = (await interlock("actions", "list")).out.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["job", "2", "command", "default", "3", "0", "0"],
        ["new", "1", "command", "default", "none", "0", "0"],
    ]
    file.unlink()
    said = await interlock("actions", "apply", tmp_path, "--prune", "--json")
    assert json.loads(said.out)["withdrawn"] == ["job", "new"]


async def test_migrate_tells_the_state_and_is_repeatable(interlock: Interlock, connection: asyncpg.Connection) -> None:
    assert await interlock("migrate") == (0, "the schema is up to date\n", "")
    assert await interlock("migrate", "verify") == (0, "this version may run on the schema\n", "")
    states = json.loads((await interlock("migrate", "status", "--json")).out)
    assert {state["state"] for state in states} == {"applied"}
    await connection.execute("DELETE FROM migration WHERE number = $1", states[-1]["number"])
    said = await interlock("migrate", "verify")
    assert (said.code, said.out) == (78, "")
    assert said.err.endswith("run `interlock migrate` first\n")


async def test_the_doctor_is_content_or_shows_the_rows_and_fails(
    interlock: Interlock, connection: asyncpg.Connection
) -> None:
    identity = await make_execution(connection, status=Status.RUNNING)
    said = await interlock("doctor")
    assert (said.code, said.out.splitlines()[-1]) == (0, "0 violations, 0 findings")

    await connection.execute("INSERT INTO poison_message (queue, reason, detail, body) VALUES ('q', 'r', 'd', '')")
    said = await interlock("doctor")
    assert (said.code, said.out.splitlines()[-1]) == (0, "0 violations, 1 findings")
    assert (await interlock("doctor", "--strict")).code == 1

    await connection.execute("DELETE FROM in_flight")
    said = await interlock("doctor")
    assert said.code == 1
    assert f"        {identity}  is running (attempt 1), in flight: no\n" in said.out
    told = json.loads((await interlock("doctor", "--json")).out)
    assert (told["violations"], [v["name"] for v in told["invariants"] if v["count"]]) == (1, ["in_flight_is_status"])


async def test_the_version_is_told_in_every_way(interlock: Interlock) -> None:
    texts = [(await interlock(*words)).out for words in (("version",), ("--version",))]
    assert texts[0] == texts[1]
    assert texts[0] == f"interlock {json.loads((await interlock('version', '--json')).out)['version']}\n"
