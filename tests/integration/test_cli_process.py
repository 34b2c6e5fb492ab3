"""The command line as a process of its own: start, terminals, broken pipes, and servers that are not there."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.contract.status import Status
from tests.eventually import eventually
from tests.factory import make_action, make_execution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLI = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")
BLOCKED = """
SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database() AND NOT l.granted
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own look at the database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def environment(database_url: str | None = None, **more: str) -> dict[str, str]:
    """Return an environment without settings but the database."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "NO_COLOR"))}
    return {**clean, **({"INTERLOCK_DATABASE_URL": database_url} if database_url else {}), **more}


def interlock(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *words], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands_and_imports_no_heavy_library() -> None:
    script = (
        "import sys; from interlock.cli.app import main; main(['--help']);"
        " heavy = {'asyncpg', 'pydantic', 'rich', 'structlog', 'aio_pika', 'orjson'};"
        " print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    began = perf_counter()
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert perf_counter() - began < 5  # 0.2 s on an idle machine; no limit could be exact on a busy one
    assert said.stderr == "\n"
    for name in ("up", "demo", "migrate", "actions", "run", "list", "show", "watch", "logs", "cancel", "doctor"):
        assert f"\n  {name} " in said.stdout


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", 69, "PostgreSQL at 127.0.0.1:1/x cannot be reached"),
        (
            "mysql://localhost/x",
            78,
            "INTERLOCK_DATABASE_URL: must be a URL that starts with postgresql:// or postgres://",
        ),
        (None, 78, "INTERLOCK_DATABASE_URL: not set"),
    ],
)
def test_a_database_that_is_not_there_is_one_line_and_never_a_traceback(
    url: str | None, code: int, message: str
) -> None:
    said = interlock("list", env=environment(url))
    assert (said.returncode, said.stdout) == (code, "")
    assert said.stderr.startswith(f"interlock: {message}")
    assert said.stderr.count("\n") == 1
    assert "secret" not in said.stderr


def test_a_misspelled_setting_is_named() -> None:
    said = interlock("list", env=environment(INTERLOCK_DATABSE_URL="x"))
    assert said.returncode == 78
    assert "did you mean INTERLOCK_DATABASE_URL?" in said.stderr


async def test_settings_may_come_from_a_file(
    database_url: str, connection: asyncpg.Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await make_execution(connection)
    file = tmp_path_factory.mktemp("etc") / "interlock.env"
    file.write_text(f"INTERLOCK_DATABASE_URL={database_url}\n")
    said = await asyncio.to_thread(interlock, "--config", str(file), "list", env=environment())
    assert (said.returncode, said.stderr) == (0, "")
    assert len(said.stdout.splitlines()) == 2


async def test_a_reader_that_goes_away_is_no_error_of_ours(database_url: str, connection: asyncpg.Connection) -> None:
    for _ in range(3):
        await make_execution(connection)
    process = await asyncio.create_subprocess_exec(
        *CLI,
        "list",
        env=environment(database_url),
        stdout=(write := _closed_pipe()),
        stderr=subprocess.PIPE,
    )
    os.close(write)
    _, err = await process.communicate()
    assert b"Traceback" not in err


def _closed_pipe() -> int:
    """Return the writing end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    database_url: str, connection: asyncpg.Connection, more: dict[str, str], *, coloured: bool
) -> None:
    await make_execution(connection, status=Status.FAILED)
    mine, theirs = pty.openpty()
    env = environment(database_url, TERM="xterm-256color", COLUMNS="120", **more)
    process = await asyncio.create_subprocess_exec(*CLI, "list", env=env, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    assert await process.wait() == 0
    text = os.read(mine, 65536).decode()
    os.close(mine)
    assert "failed" in text
    assert ("\x1b[31m" in text) is coloured


async def test_interrupting_a_wait_leaves_the_executions_and_says_so(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await make_action(connection)
    process = await asyncio.create_subprocess_exec(
        *CLI,
        "run",
        "job",
        "--wait",
        env=environment(database_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await eventually(lambda: connection.fetchval("SELECT 1 FROM execution"), timeout=30)
    async with connection.transaction():
        # It has committed, and is interrupted while it looks.
        await connection.execute("LOCK TABLE execution IN ACCESS EXCLUSIVE MODE")
        await eventually(lambda: connection.fetchval(BLOCKED))
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == "no longer waiting; the executions go on: `interlock cancel` stops them\n"
    assert await connection.fetchval("SELECT status::text FROM execution") == "requested"


async def test_interrupting_a_request_says_where_to_look_for_it(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await make_action(connection)
    async with connection.transaction():
        await connection.execute("LOCK TABLE execution IN SHARE MODE")
        process = await asyncio.create_subprocess_exec(
            *(*CLI, "run", "job"), env=environment(database_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        await eventually(lambda: connection.fetchval(BLOCKED), timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode() == "interrupted while this was requested: `interlock list` shows whether it was accepted\n"
    assert await connection.fetchval("SELECT count(*) FROM execution") == 0
