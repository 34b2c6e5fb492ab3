"""Where trials take place: a private stack with daemons of its own, or a pool of their own in a user's deployment.

In a user's deployment nothing is touched but what was made here: actions and keys, a pool and its workers, a queue.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from chaos.actions import CALLS, NOTES, RUNS, SLOTS
from chaos.cast import Cast
from chaos.ear import Ear
from chaos.eyes import Eyes
from chaos.flavours import definitions
from chaos.sender import Sender
from interlock.adapters import migrations
from interlock.adapters.postgres import mapped_errors, open_pool
from interlock.adapters.tap import Ground
from interlock.client import Client
from interlock.contract.topology import Topology
from interlock.local.stack import Endpoints, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

LISTENER: Final = "client.chaos"
NAME: Final = "chaos"
POOL: Final = "default"
LEASE: Final = 12.0
# The shortest that keep every rule, so that a lost worker is waited for a few seconds and not half a minute.
TIMES: Final = {
    "INTERLOCK_LEASE": f"{LEASE:g}",
    "INTERLOCK_RENEW": "1",
    "INTERLOCK_GUARDIAN": "7",
    "INTERLOCK_REAPER": "0.5",
    "INTERLOCK_RECONCILE": "1",
    "INTERLOCK_DRAIN": "10",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a trial has: the names that are its own, the servers, the daemons, and ways to ask, look and listen.

    `stack` is None on a user's deployment, where `cast` are workers only.
    """

    name: str
    pool: str
    topology: Topology
    endpoints: Endpoints
    cast: Cast
    ear: Ear
    eyes: Eyes
    client: Client
    sender: Sender
    evidence: Path
    stack: Stack | None

    @property
    def keys(self) -> str:
        """The pattern of the names of all keys that may be judged."""
        return "%" if self.stack is not None else f"%{self.name}%"

    def notes(self) -> list[str]:
        """Return what the actions wrote down so far."""
        return self._written(NOTES)

    def calls(self) -> list[str]:
        """Return what the callbacks of batches wrote down so far."""
        return self._written(CALLS)

    def _written(self, name: str) -> list[str]:
        file = self.evidence / name
        return file.read_text().splitlines() if file.exists() else []


@asynccontextmanager
async def private(stack: Stack) -> AsyncIterator[Stage]:
    """Set a stage on a private stack: an empty database, empty queues, two executors and three workers."""
    topology = Topology()
    async with Ground(stack.endpoints.amqp_url, topology) as ground:
        await ground.remove(POOL)
        await ground.declare()
    database_url = await _database(stack.endpoints.database_url)
    endpoints = replace(stack.endpoints, database_url=database_url)
    cast = Cast(endpoints, stack.logs, {**_environment(topology, POOL), **TIMES})
    async with _staged(NAME, POOL, topology, endpoints, cast, stack) as stage:
        yield stage


@asynccontextmanager
async def against(database_url: str, amqp_url: str, prefix: str, logs: Path) -> AsyncIterator[Stage]:
    """Set a stage beside a user's own work: three workers for a pool of its own; executors are the user's."""
    name = f"{NAME}-{secrets.token_hex(4)}"
    endpoints = Endpoints.of_one_user(database_url, amqp_url)
    topology = Topology(prefix)
    cast = Cast(endpoints, logs, {**_environment(topology, name), **TIMES}, executors=0)
    async with _staged(name, name, topology, endpoints, cast, None) as stage:
        yield stage


@asynccontextmanager
async def _staged(
    name: str, pool: str, topology: Topology, endpoints: Endpoints, cast: Cast, stack: Stack | None
) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as undo:
        evidence = Path(tempfile.mkdtemp(prefix="interlock-evidence-"))
        undo.callback(shutil.rmtree, evidence, ignore_errors=True)
        for folder in (RUNS, SLOTS):
            (evidence / folder).mkdir()
        eyes = Eyes(endpoints.database_url)
        undo.push_async_callback(eyes.close)
        client = await undo.enter_async_context(Client.connect(endpoints.database_url))
        await client.apply_actions(definitions(name, pool))
        sender = Sender(endpoints.client)
        undo.push_async_callback(sender.close)
        listener = LISTENER if stack is not None else f"client.{name}"
        ear = Ear(endpoints.client, topology, listener)
        if stack is None:
            undo.push_async_callback(_leave, name, pool, topology, endpoints, ear)
        await undo.enter_async_context(ear)
        undo.callback(cast.kill)
        await cast.start()
        yield Stage(
            name=name,
            pool=pool,
            topology=topology,
            endpoints=endpoints,
            cast=cast,
            ear=ear,
            eyes=eyes,
            client=client,
            sender=sender,
            evidence=evidence,
            stack=stack,
        )


def _environment(topology: Topology, pool: str) -> Mapping[str, str]:
    return {
        "INTERLOCK_ACTIONS": "",
        "INTERLOCK_FAULTS": "",
        "INTERLOCK_FUNCTIONS": "chaos.actions",
        "INTERLOCK_PREFIX": topology.prefix,
        "INTERLOCK_POOL": pool,
        "INTERLOCK_CONCURRENCY": "24",
        "INTERLOCK_LOG": "json",
        "INTERLOCK_LOG_LEVEL": "info",
    }


async def _database(server_url: str) -> str:
    """Make an empty, migrated database, and return its address."""
    name = f"{NAME}_{secrets.token_hex(4)}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    for address, work in ((server_url, f'CREATE DATABASE "{name}"'), (url, None)):
        pool = await open_pool(address, application="interlock-chaos", size=1, hot=False)
        try:
            with mapped_errors():
                async with pool.acquire() as connection:
                    await (migrations.migrate(connection) if work is None else connection.execute(work))
        finally:
            pool.terminate()
    return url


async def _leave(name: str, pool: str, topology: Topology, endpoints: Endpoints, ear: Ear) -> None:
    """Take away what was made on a user's deployment: the actions, and the two queues."""
    eyes = Eyes(endpoints.database_url)
    await eyes.fetch("withdraw_actions", f"{name}.%")
    await eyes.close()
    for queue in (ear.name, topology.pool_queue(pool).name):
        await Sender(endpoints.amqp_url).delete_queue(queue)
