"""Applies the numbered SQL files of `migrations/`, forward only, and tells whether a daemon may run on a schema.

Each file is checksummed and applied in a transaction of its own under one advisory lock. The second comment of a file
may say `min_daemon: X.Y.Z`: older daemons refuse to start on that schema.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from interlock import __version__
from interlock.contract.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from interlock.adapters.postgres import Tx

_LOCK = 0x1A7E_210C
_LEDGER = """
CREATE TABLE IF NOT EXISTS migration (
    number     int         PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    min_daemon text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: its number, name, text, checksum (SHA-256 of the text) and the oldest daemon that can run on it."""

    number: int
    name: str
    text: str
    checksum: str
    min_daemon: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One line of `interlock migrate status`: `state` is applied, pending, changed or unknown."""

    number: int
    name: str
    state: str
    applied_at: datetime | None


def available() -> list[Migration]:
    """The files that this version ships, in order."""
    found = []
    for entry in files("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            text = entry.read_text(encoding="utf-8")
            oldest = re.search(r"^-- min_daemon: (\S+)$", text, re.MULTILINE)
            found.append(
                Migration(
                    number=int(match[1]),
                    name=match[2],
                    text=text,
                    checksum=hashlib.sha256(text.encode()).hexdigest(),
                    min_daemon=oldest[1] if oldest else "0",
                )
            )
    return sorted(found, key=lambda migration: migration.number)


async def _applied(connection: Tx) -> dict[int, Any]:
    if await connection.fetchval("SELECT to_regclass('migration')") is None:
        return {}
    rows = await connection.fetch(
        "SELECT number, name, checksum, min_daemon, applied_at FROM migration ORDER BY number"
    )
    return {row["number"]: row for row in rows}


async def migrate(connection: Tx, shipped: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is pending and return the names of it. Callers that run at once wait for each other.

    `shipped` is what this version knows, `available()` by default. Raises Misconfigured when an applied file was
    changed afterwards.
    """
    known = available() if shipped is None else shipped
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(_LEDGER)
        done = await _applied(connection)
        _refuse_changed(done, known)
        pending = [migration for migration in known if migration.number not in done]
        for migration in pending:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum, min_daemon) VALUES ($1, $2, $3, $4)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                    migration.min_daemon,
                )
        if pending:
            # Plans prepared without statistics are the ones that go wrong later.
            await connection.execute("ANALYZE")
        return [f"{migration.number:04}_{migration.name}" for migration in pending]
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


def _refuse_changed(done: dict[int, Any], known: Sequence[Migration]) -> None:
    for migration in known:
        row = done.get(migration.number)
        if row is not None and row["checksum"] != migration.checksum:
            message = (
                f"migration {migration.number:04}_{migration.name} was applied with other content than this version "
                "ships: install the version that applied it, or restore the database"
            )
            raise Misconfigured(message)


async def status(connection: Tx, shipped: Sequence[Migration] | None = None) -> list[State]:
    """Every migration known here or there, with its state."""
    done = await _applied(connection)
    known = {migration.number: migration for migration in (available() if shipped is None else shipped)}
    states = []
    for number in sorted(done.keys() | known.keys()):
        row, migration = done.get(number), known.get(number)
        if row is None:
            state = "pending"
        elif migration is None:
            state = "unknown"
        else:
            state = "applied" if row["checksum"] == migration.checksum else "changed"
        name = migration.name if migration else row["name"] if row else ""
        states.append(State(number=number, name=name, state=state, applied_at=row["applied_at"] if row else None))
    return states


async def verify(connection: Tx, shipped: Sequence[Migration] | None = None) -> None:
    """Raise Misconfigured unless this version may run on the schema: nothing pending, nothing changed, not too new."""
    done = await _applied(connection)
    known = available() if shipped is None else shipped
    _refuse_changed(done, known)
    needed = [migration for migration in known if migration.number not in done]
    if needed:
        have = max(done, default=0)
        message = (
            f"the schema is at {have:04} and this version needs {needed[-1].number:04}: run `interlock migrate` first"
        )
        raise Misconfigured(message)
    oldest = max((row["min_daemon"] for row in done.values()), key=_version, default="0")
    if _version(oldest) > _version(__version__):
        message = (
            f"the schema needs daemons of version {oldest} or later and this is {__version__}: upgrade this daemon"
        )
        raise Misconfigured(message)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))
