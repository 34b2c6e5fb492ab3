"""Private servers: where they listen, whom they let in, and that nothing of them is left, however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest
from aiormq.exceptions import ChannelAccessRefused

from interlock.local.stack import Stack
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interlock.local.stack import Endpoints

WELL_KNOWN = {5432, 5672, 4369, 25672, 15672}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state whose unpacked packages are there already, where the tests run on private servers."""
    return Path(os.environ.get("INTERLOCK_STATE", tmp_path))


def processes_of(stack: str) -> list[int]:
    """Return the processes that have the stack's name in their arguments or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"stacks/{stack}".encode() in told:
            found.append(int(folder.name))
    return found


async def declare_and_publish(url: str, exchange_name: str) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(exchange_name, ensure=False)
        await exchange.publish(aio_pika.Message(b"{}"), "execution.completed.completed", mandatory=False)


async def test_two_stacks_run_side_by_side_and_one_leaves_nothing(
    state: Path, role_urls: Endpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    began = monotonic()
    async with Stack(state) as stack:
        took = monotonic() - began
        endpoints, name = stack.endpoints, stack.folder.name
        ports = {urlsplit(url).port for url in (endpoints.database_url, endpoints.amqp_url)}
        assert ports.isdisjoint(WELL_KNOWN)
        assert ports.isdisjoint({urlsplit(url).port for url in (role_urls.database_url, role_urls.amqp_url)})
        connection = await asyncpg.connect(endpoints.database_url)
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        await connection.close()
        await declare_and_publish(endpoints.worker, "interlock.completions")
        assert len(processes_of(name)) >= 3
    assert took < 60
    assert processes_of(name) == []
    assert not stack.folder.exists()
    said = capsys.readouterr().err
    assert "PostgreSQL is up" in said
    assert "RabbitMQ is up" in said


async def test_the_database_wants_its_password(role_urls: Endpoints) -> None:
    url = urlsplit(role_urls.database_url)
    wrong = url._replace(netloc=f"{url.username}:wrong@{url.hostname}:{url.port}").geturl()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


async def test_an_executor_may_not_say_that_an_execution_completed(role_urls: Endpoints) -> None:
    with pytest.raises(ChannelAccessRefused):
        await declare_and_publish(role_urls.executor, "interlock.completions")


@pytest.fixture
def supervisor(state: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command on a private stack of its own, which first says in JSON where it is and then stays."""
    script = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
    env = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    with (
        (tmp_path / "stderr").open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "interlock.local", "--not-durable", "--", sys.executable, "-c", script],
            env={**env, "INTERLOCK_STATE": str(state)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        yield process
        process.kill()


async def test_a_killed_supervisor_leaves_no_process(supervisor: subprocess.Popen[str]) -> None:
    assert supervisor.stdout is not None
    told = json.loads(supervisor.stdout.readline())
    name = Path(told["INTERLOCK_STATE"]).name
    assert len(processes_of(name)) >= 4
    # It was started as one that need not be durable.
    connection = await asyncpg.connect(told["INTERLOCK_DATABASE_URL"])
    assert await connection.fetchval("SHOW fsync") == "off"
    await connection.close()
    supervisor.send_signal(signal.SIGKILL)
    await eventually(lambda: processes_of(name) == [], timeout=15)


def test_a_command_ends_its_servers_and_lends_its_exit_code(role_urls: Endpoints, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "INTERLOCK_DATABASE_URL": role_urls.database_url,
        "INTERLOCK_AMQP_URL": role_urls.amqp_url,
        "INTERLOCK_STATE": str(tmp_path),
    }
    script = 'test "$INTERLOCK_STATE" != "$0" && test -f "$INTERLOCK_STATE/stack.json" && exit 7'
    command = [sys.executable, "-m", "interlock.local", "--", "sh", "-c", script, str(tmp_path)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stderr) == (7, "")
    assert list((tmp_path / "stacks").iterdir()) == []
