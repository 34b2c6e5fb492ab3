"""The demonstration, run as a user runs it, on the servers of the tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = [sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())", "demo", "--json"]
SECONDS = 150


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.usefixtures("server_url", "amqp_url")
async def test_every_figure_of_the_demonstration_is_as_it_must_be() -> None:
    run = await asyncio.to_thread(subprocess.run, DEMO, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    executions = figures["executions"]
    assert executions >= 300
    # A tenth of at least three events per execution: it ran, it ended, it completed.
    assert figures.pop("duplicates_injected") >= executions * 3 // 10 - 2
    assert 0 < figures.pop("seconds") < 100
    assert figures == {
        "executions": executions,
        "completed": executions,
        "failed": 0,
        "completed_events": executions,
        "unchanged_writes": 0,
        "warnings": 0,
        "slots_held": 0,
        "over_limit": 0,
        "wrong_results": 0,
        "doctor_violations": 0,
    }
    assert "is killed" in run.stderr


BATCH = [*DEMO, "--batch", "--users", "12", "--days", "15"]


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.usefixtures("server_url", "amqp_url")
async def test_every_total_of_the_demonstrated_batch_is_right_although_a_worker_was_killed() -> None:
    run = await asyncio.to_thread(subprocess.run, BATCH, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    skipped = figures.pop("skipped")
    assert 0 < skipped < 60
    assert figures.pop("seconds") > 0
    assert figures == {
        "partitions": 180,
        "status": "completed",
        "completed": 180 - skipped,
        "failed": 0,
        "wrong_totals": 0,
        "counter_drift": 0,
        "lost": 0,
        "doctor_violations": 0,
    }
    assert "is killed" in run.stderr


def environments_with(mark: str) -> list[dict[str, str]]:
    """Return the environments of all processes that mention `mark` in theirs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "environ").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if mark in told:
            found.append(dict(line.split("=", 1) for line in told.split("\0") if "=" in line))
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demonstration under way whose processes all have `tmp_path` in their environment; it speaks to `told` there."""
    env = {**os.environ, "INTERLOCK_STATE": str(tmp_path)}
    with (
        (tmp_path / "told").open("wb") as told,
        subprocess.Popen(DEMO, env=env, stdout=told, stderr=told) as process,
    ):
        yield process
        process.kill()


@pytest.mark.usefixtures("amqp_url")
async def test_an_interrupted_demonstration_leaves_nothing_behind(
    demo: subprocess.Popen[bytes], server_url: str, tmp_path: Path
) -> None:
    await eventually(lambda: "symbols" in (tmp_path / "told").read_text(), timeout=60)
    urls = {env["INTERLOCK_DATABASE_URL"] for env in environments_with(str(tmp_path)) if "PYTHONPATH" in env}
    names = [urlsplit(url).path[1:] for url in urls if url != server_url]
    assert len(names) == 1
    server = await asyncpg.connect(server_url)
    try:
        count = "SELECT count(*) FROM pg_database WHERE datname = ANY($1)"
        assert await server.fetchval(count, names) == 1
        demo.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(demo.wait, 30) == 130
        assert await server.fetchval(count, names) == 0
    finally:
        await server.close()
    await eventually(lambda: environments_with(str(tmp_path)) == [])
    assert list((tmp_path / "stacks").iterdir()) == []


def test_an_installed_copy_says_that_the_demonstration_needs_a_checkout(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from interlock.local import demo; demo.CHECKOUT = pathlib.Path(sys.argv[1]);"
        "sys.exit(demo.main())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=os.environ, check=False
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "checkout" in run.stderr
