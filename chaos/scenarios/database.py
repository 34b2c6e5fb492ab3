"""Faults of the database: its connections cut, itself restarted, its disk full, a hot row locked."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from chaos.trial import Scenario
from interlock.local.places import as_root

if TYPE_CHECKING:
    from chaos.stage import Stage
    from chaos.trial import Trial

DOWN_SECONDS: Final = 1.0
BETWEEN_SECONDS: Final = 5.0
FULL_SECONDS: Final = 3.0
LOCK_SECONDS: Final = 4.0
DISK: Final = "48m"
LEFT: Final = 64 * 1024


async def terminate_backends(trial: Trial, every: float = 1.0) -> None:
    """End every connection to our database each second, or every so many."""
    while trial.goes_on:
        await trial.pause(every)
        await trial.stage.eyes.fetch("terminate_backends")


async def restart_database(trial: Trial) -> None:
    """Crash the server and start it again, over and over."""
    if trial.stage.stack is None:
        raise RuntimeError("a user's database is not ours to break")
    server = trial.stage.stack.database
    while trial.goes_on:
        await trial.pause(BETWEEN_SECONDS)
        await server.stop()
        await asyncio.sleep(DOWN_SECONDS)
        await server.start()


async def fill_disk(trial: Trial) -> None:
    """Move all tables to a small disk and fill it, again and again; the log of the server has room elsewhere."""
    eyes = trial.stage.eyes
    folder = Path(tempfile.mkdtemp(prefix="interlock-disk-", dir="/var/lib"))
    await asyncio.to_thread(_mounted, "mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "tmpfs", str(folder))
    try:
        place = folder / "tables"
        place.mkdir(mode=0o700)
        user = _server_user(trial)
        os.chown(place, user.pw_uid, user.pw_gid)
        await eyes.run(f"CREATE TABLESPACE chaos_small LOCATION '{place}'")
        await _move_all(trial, "pg_default", "chaos_small")
        try:
            while trial.goes_on:
                await trial.pause(BETWEEN_SECONDS)
                ballast = folder / "ballast"
                await asyncio.to_thread(_fill, ballast)
                await asyncio.sleep(FULL_SECONDS)
                ballast.unlink()
        finally:
            (folder / "ballast").unlink(missing_ok=True)
            await _move_all(trial, "chaos_small", "pg_default")
            await eyes.run("DROP TABLESPACE chaos_small")
    finally:
        await asyncio.to_thread(_mounted, "umount", "--lazy", str(folder))
        await asyncio.to_thread(folder.rmdir)


async def lock_rows(trial: Trial) -> None:
    """Hold locks on what everybody needs: the row of a limited key, the pool's, and those of the newest executions."""
    connection = await asyncpg.connect(trial.stage.endpoints.database_url)
    try:
        while trial.goes_on:
            statement = trial.seed.choice(HOT)
            async with connection.transaction():
                await connection.execute(statement)
                await asyncio.sleep(LOCK_SECONDS)
            await trial.pause(1.0)
    finally:
        await connection.close()


HOT: Final = (
    "SELECT 1 FROM queue WHERE name = 'action:chaos.ten' FOR UPDATE",
    "SELECT 1 FROM queue WHERE scope = 'pool' ORDER BY id FOR UPDATE",
    "SELECT 1 FROM execution WHERE id IN (SELECT id FROM execution ORDER BY id DESC LIMIT 20) ORDER BY id FOR UPDATE",
    "SELECT 1 FROM outbox ORDER BY id FOR UPDATE",
)


async def _move_all(trial: Trial, source: str, target: str) -> None:
    """Move every table and index; while the daemons work, so that a lock may have to be waited for more than once."""
    for kind in ("TABLE", "INDEX"):
        await trial.stage.eyes.run(f"ALTER {kind} ALL IN TABLESPACE {source} SET TABLESPACE {target}")


def _fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file:
        block = b"\0" * LEFT
        try:
            while True:
                file.write(block)
        except OSError:
            return  # it is full: that was the purpose


def _mounted(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _server_user(trial: Trial) -> pwd.struct_passwd:
    if trial.stage.stack is None:
        raise RuntimeError("a user's database is not ours to break")
    return pwd.getpwuid(trial.stage.stack.database.folder.stat().st_uid)


def _cannot_mount(stage: Stage) -> str:
    """Say why no small disk can be had here, or nothing: try it."""
    del stage
    if not as_root():
        return "only root can mount a small disk"
    folder = tempfile.mkdtemp(prefix="interlock-disk-")
    try:
        _mounted("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
        _mounted("umount", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a small disk cannot be mounted here: {error}"
    finally:
        Path(folder).rmdir()
    return ""


SCENARIOS: Final = (
    Scenario(
        name="database-cut", sentence="all connections to PostgreSQL are ended every second", fault=terminate_backends
    ),
    Scenario(
        name="database-restart",
        sentence="PostgreSQL crashes and comes back, over and over",
        fault=restart_database,
        outage=True,
    ),
    Scenario(
        name="disk-full",
        sentence="the disk of the tables is full",
        fault=fill_disk,
        outage=True,
        impossible=_cannot_mount,
    ),
    Scenario(name="locked-row", sentence="rows that everybody needs are locked for seconds", fault=lock_rows),
)
