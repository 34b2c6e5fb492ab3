"""Where the demo plays: a database and broker names of its own, with one executor and two workers on them.

Whatever else is in the database and on the broker stays untouched, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from interlock.adapters import migrations
from interlock.adapters.postgres import mapped_errors, open_pool
from interlock.adapters.statements import Statements
from interlock.adapters.tap import Ground
from interlock.contract.errors import Unavailable
from interlock.contract.topology import Topology
from interlock.local.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from asyncpg import Pool

    from interlock.local.daemons import Daemon
    from interlock.local.stack import Stack

SQL: Final = Statements("interlock.local")
WORKERS: Final = 2
PERIOD: Final = 0.2
# Shorter than the defaults, so that the killed worker's executions need not wait half a minute for another.
TIMES: Final = {"INTERLOCK_LEASE": "12", "INTERLOCK_RENEW": "1", "INTERLOCK_GUARDIAN": "7", "INTERLOCK_REAPER": "1"}
# Counts each update that leaves a row as it was. One that sets a status to itself is refused by the schema's own guard.
TRIPWIRE: Final = """
CREATE TABLE demo_unchanged (relation text NOT NULL, line jsonb NOT NULL);
CREATE FUNCTION demo_note_unchanged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO demo_unchanged VALUES (tg_table_name, to_jsonb(new));
    RETURN NULL;
END $$;
"""
WATCHED: Final = ("execution", "queue", "lane", "slot", "in_flight", "timer", "worker")
SAME_ROW: Final = """
CREATE TRIGGER demo_same_row AFTER UPDATE ON {table} FOR EACH ROW
    WHEN (old.* IS NOT DISTINCT FROM new.*) EXECUTE FUNCTION demo_note_unchanged();
"""
UNCHANGED: Final = "SELECT relation, count(*)::int AS rows FROM demo_unchanged GROUP BY relation ORDER BY relation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What is there while the demo runs: addresses, names, a pool for looking, and the daemons."""

    database_url: str
    topology: Topology
    pool: Pool[Any]
    ground: Ground
    daemons: Daemons
    killed: list[Daemon] = field(default_factory=list)

    async def kill(self, worker: UUID) -> Daemon:
        """Kill the worker with this incarnation, as a crash would, and return it once it has gone."""
        # A worker's log names its incarnation.
        daemon = next(each for each in self.daemons.workers if str(worker) in each.log.read_text(errors="replace"))
        self.killed.append(daemon)
        daemon.kill()
        # What is killed is the guardian, and the worker with it; on a busy machine that takes a moment.
        await daemon.child.wait()
        return daemon

    async def watch(self) -> None:
        """Raise Unavailable as soon as a daemon ends that was not killed on purpose; does not return before."""
        daemons = (*self.daemons.executors, *self.daemons.workers)
        while True:
            for daemon in daemons:
                if daemon not in self.killed and daemon.child.exit_code is not None:
                    raise Unavailable(f"{daemon.name} ended with exit code {daemon.child.exit_code}: see {daemon.log}")
            await asyncio.sleep(PERIOD)

    def standing(self) -> dict[str, str]:
        """How the workers stand, by name."""
        return {each.name: "killed" if each in self.killed else "works" for each in self.daemons.workers}

    async def value(self, name: str, *arguments: object) -> int:
        """Return the one number that a statement asks for."""
        with mapped_errors():
            number: int = await self.pool.fetchval(SQL[name], *arguments)
        return number

    async def holders(self, action: str) -> list[tuple[UUID, int]]:
        """Return the workers that run executions of `action`, and how many; the busiest first."""
        with mapped_errors():
            return [(row["worker_id"], row["held"]) for row in await self.pool.fetch(SQL["holders"], action)]

    async def unchanged_writes(self) -> dict[str, int]:
        """How many updates changed nothing, by table."""
        with mapped_errors():
            return {row["relation"]: row["rows"] for row in await self.pool.fetch(UNCHANGED)}


@asynccontextmanager
async def staged(stack: Stack, checkout: Path) -> AsyncIterator[Stage]:
    """Set everything up on the servers of `stack`, daemons ready, and take it all down again.

    Raises Unavailable or Misconfigured if the servers do not let us.
    """
    # The form of names that private brokers grant to everyone beside the deployment's own.
    topology = Topology(f"t-{secrets.token_hex(6)}")
    async with (
        _database(stack.endpoints.database_url) as (database_url, pool),
        _ground(stack.endpoints.amqp_url, topology) as ground,
    ):
        daemons = Daemons(
            replace(stack.endpoints, database_url=database_url),
            logs=stack.logs,
            executors=1,
            workers=WORKERS,
            env=_environment(topology, checkout, database_url),
        )
        whole = False
        try:
            await daemons.start()
            yield Stage(database_url=database_url, topology=topology, pool=pool, ground=ground, daemons=daemons)
            whole = True
        finally:
            if not whole:
                # Whatever ended the demo early, Ctrl-C included: nobody waits for the rest of the work.
                daemons.kill()
            await daemons.stop()


def _environment(topology: Topology, checkout: Path, database_url: str) -> dict[str, str]:
    return {
        **TIMES,
        "INTERLOCK_ACTIONS": "",
        "INTERLOCK_PREFIX": topology.prefix,
        "INTERLOCK_POOL": "default",
        "INTERLOCK_CONCURRENCY": "16",
        "INTERLOCK_LOG": "json",
        "INTERLOCK_LOG_LEVEL": "info",
        "INTERLOCK_FUNCTIONS": "examples.symbols,examples.bi",
        "BI_DATABASE_URL": database_url,
        "INTERLOCK_HTTP_ALLOW": "127.0.0.1",
        "PYTHONPATH": str(checkout),
    }


@asynccontextmanager
async def _database(server_url: str) -> AsyncIterator[tuple[str, Pool[Any]]]:
    """Give the address of a migrated database of our own, with the tripwire in it, and a pool on it."""
    name = f"demo_{secrets.token_hex(6)}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    server = await open_pool(server_url, application="interlock-demo", size=1, hot=False)
    try:
        with mapped_errors():
            await server.execute(f'CREATE DATABASE "{name}"')
        try:
            pool = await open_pool(url, application="interlock-demo", size=2, hot=False)
            try:
                await _prepare(pool)
                yield url, pool
            finally:
                pool.terminate()
        finally:
            with mapped_errors():
                await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        server.terminate()


async def _prepare(pool: Pool[Any]) -> None:
    with mapped_errors():
        async with pool.acquire() as connection:
            await migrations.migrate(connection)
            await connection.execute(TRIPWIRE + "".join(SAME_ROW.format(table=table) for table in WATCHED))


@asynccontextmanager
async def _ground(owner_url: str, topology: Topology) -> AsyncIterator[Ground]:
    async with Ground(owner_url, topology) as ground:
        try:
            await ground.declare()
            yield ground
        finally:
            await ground.remove("default")
