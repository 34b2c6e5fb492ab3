"""One private PostgreSQL and one private RabbitMQ, started together; addresses that are given win over them."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Self, TypeVar

from interlock.contract.errors import Misconfigured
from interlock.local import places
from interlock.local.postgres import Postgres
from interlock.local.rabbitmq import USERS, RabbitMQ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from pathlib import Path
    from types import TracebackType

FILE: Final = "stack.json"
Server = TypeVar("Server", Postgres, RabbitMQ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses with their passwords: the database, the broker for its owner, and the broker for each role."""

    database_url: str
    amqp_url: str
    executor: str
    worker: str
    client: str

    @classmethod
    def of_one_user(cls, database_url: str, amqp_url: str) -> Self:
        """Return addresses on servers where every role uses the same broker user."""
        return cls(database_url=database_url, amqp_url=amqp_url, executor=amqp_url, worker=amqp_url, client=amqp_url)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what a running stack has written. Raises Misconfigured if there is none in `folder`."""
        try:
            found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Misconfigured(f"no stack runs in {folder}: start one with `interlock up`") from None
        return cls(database_url=found["database_url"], amqp_url=found["amqp_url"], **found["users"])

    def write(self, folder: Path) -> None:
        """Write them where `read` finds them, for this user only."""
        found = asdict(self)
        users = {role: found.pop(role) for role in ("executor", "worker", "client")}
        partial = folder / f"{FILE}.{os.getpid()}"
        partial.touch(mode=0o600)
        partial.write_text(json.dumps({**found, "users": users}, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)


def say(text: str) -> None:
    """Tell the user about progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Stack:
    """The two servers, private where no address is given. `async with Stack(state) as stack: stack.endpoints`.

    A stack with a `name` keeps its data and announces itself in `state` itself; any other is gone at the end, and
    announces itself in `folder`. `listeners` are queues of a private broker that hear every status and completion.
    Without `durable` a private PostgreSQL never waits for a disk: it survives a death of processes, not of the machine.
    """

    def __init__(
        self,
        state: Path,
        *,
        name: str | None = None,
        database_url: str | None = None,
        amqp_url: str | None = None,
        quiet: bool = False,
        durable: bool = True,
        listeners: Sequence[str] = (),
    ) -> None:
        self._state = state
        self._durable = durable
        self._listeners = listeners
        self._name = name
        self._given = (database_url, amqp_url)
        self._say = (lambda _text: None) if quiet else say
        self._place: places.Place | None = None
        self._servers: list[Postgres | RabbitMQ] = []
        self._database: Postgres | None = None
        self._broker: RabbitMQ | None = None
        self._announced: Path | None = None
        self._endpoints: Endpoints | None = None

    @property
    def endpoints(self) -> Endpoints:
        """The addresses, once started."""
        if self._endpoints is None:
            raise RuntimeError("the stack was not started")
        return self._endpoints

    @property
    def database(self) -> Postgres:
        """The private database server, once started."""
        return _private(self._database)

    @property
    def broker(self) -> RabbitMQ:
        """The private broker, once started."""
        return _private(self._broker)

    @property
    def folder(self) -> Path:
        """The folder that INTERLOCK_STATE should name for whatever runs on this stack."""
        return self._announced or self._state

    @property
    def logs(self) -> Path:
        """The folder of log files, of the servers and of daemons started on them."""
        if self._place is None:
            raise RuntimeError("the stack was not started")
        return self._place.folder / "log"

    async def start(self) -> None:
        """Start what is not given, both at once. Raises Unavailable, with nothing left running."""
        database_url, amqp_url = self._given
        self._place = places.take(self._state, self._name)
        async with AsyncExitStack() as undo:
            # Failed or cancelled: a start that is given up must not leave servers behind.
            undo.push_async_callback(self.stop)
            self._endpoints = await self._start_in(self._place, database_url, amqp_url)
            self._announced = self._place.state if self._place.keep else self._place.folder
            self._endpoints.write(self._announced)
            undo.pop_all()

    async def stop(self) -> None:
        """Stop what was started and remove what is not kept. Idempotent."""
        if self._place is None:
            return
        place, self._place = self._place, None
        if self._announced is not None:
            (self._announced / FILE).unlink(missing_ok=True)
        await asyncio.gather(*(server.stop() for server in self._servers))
        place.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start_in(self, place: places.Place, database_url: str | None, amqp_url: str | None) -> Endpoints:
        passwords = _passwords(place.folder)
        database = self._database = Postgres(place, passwords["database"], durable=self._durable)
        broker = self._broker = RabbitMQ(place, passwords, self._say, self._listeners)
        try:
            async with asyncio.TaskGroup() as starting:
                if database_url is None:
                    self._servers.append(database)
                    starting.create_task(self._timed("PostgreSQL", database.start()))
                if amqp_url is None:
                    self._servers.append(broker)
                    starting.create_task(self._timed("RabbitMQ", broker.start()))
        except ExceptionGroup as failed:
            # The user is helped by the first cause; the other server was only cancelled because of it.
            raise failed.exceptions[0] from None
        where = database_url or database.url
        if amqp_url is not None:
            return _with_known_roles(self._state, where, amqp_url)
        roles = {role: broker.url(role) for role in USERS if role != "owner"}
        return Endpoints(database_url=where, amqp_url=broker.url("owner"), **roles)

    async def _timed(self, name: str, start: Awaitable[None]) -> None:
        began = monotonic()
        await start
        self._say(f"{name} is up ({monotonic() - began:.1f} s)")


def _private(server: Server | None) -> Server:
    if server is None:
        raise RuntimeError("the stack was not started")
    return server


def _with_known_roles(state: Path, database_url: str, amqp_url: str) -> Endpoints:
    """Give each role its own user where the given broker is one of our own stacks, and one user to all elsewhere."""
    if (state / FILE).exists():
        known = Endpoints.read(state)
        if known.amqp_url == amqp_url:
            return Endpoints(
                database_url=database_url,
                amqp_url=amqp_url,
                executor=known.executor,
                worker=known.worker,
                client=known.client,
            )
    return Endpoints.of_one_user(database_url, amqp_url)


def _passwords(folder: Path) -> dict[str, str]:
    """Return the stack's passwords: those that its data was made with, where it is kept."""
    file = folder / "secrets.json"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(json.dumps({name: secrets.token_urlsafe(18) for name in ("database", *USERS)}))
    found: dict[str, str] = json.loads(file.read_text())
    return found
