"""A deployment of a test's own: real executors and workers on real servers, and the eyes to see what they did."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aio_pika
import httpx

from interlock.contract import events
from interlock.contract.definitions import Action
from interlock.contract.topology import Topology
from interlock.local.daemons import Daemon, Role
from tests.eventually import eventually
from tests.system.nursery import Forked
from tests.world import fresh_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import asyncpg
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

    from interlock.local.stack import Endpoints
    from tests.system.nursery import Nursery

FUNCTIONS = "tests.system.actions"
DRAIN = 45.0
LOUD = frozenset({"warning", "error", "critical"})
EMPTY_AT_THE_END = ("slot", "in_flight", "outbox", "timer", "waiting")


class Deployment:
    """Daemons under one prefix on one database. `endpoints` are where new daemons will find the servers."""

    def __init__(
        self, connection: asyncpg.Connection, endpoints: Endpoints, prefix: str, logs: Path, nursery: Nursery
    ) -> None:
        self.connection = connection
        self._nursery = nursery
        self.endpoints = self._servers = endpoints
        self.topology = Topology(prefix)
        self._logs = logs
        self.daemons: list[Daemon] = []
        self._ended: set[Daemon] = set()
        self._stack = AsyncExitStack()
        self._channels: dict[str, AbstractChannel] = {}

    async def executor(self, **env: str) -> Daemon:
        """Start an executor and wait until it is ready; `RECONCILE="1"` stands for INTERLOCK_RECONCILE."""
        return await self._start("executor", env)

    async def worker(self, **env: str) -> Daemon:
        """Start a worker (guardian and child) and wait until it is ready."""
        return await self._start("worker", {"FUNCTIONS": FUNCTIONS, **env})

    async def executors(self, **env: str) -> tuple[Daemon, Daemon]:
        """Start two executors at once: there is no leader, so nothing may depend on there being one."""
        return await asyncio.gather(self.executor(**env), self.executor(**env))

    async def trio(self, **env: str) -> tuple[Daemon, Daemon, Daemon]:
        """Start two executors and a worker at once, with the same settings; the worker comes last."""
        (first, second), worker = await asyncio.gather(self.executors(**env), self.worker(**env))
        return first, second, worker

    def daemon(self, role: Role, env: Mapping[str, str]) -> Daemon:
        """Make a daemon that the test starts itself, because it will not get ready."""
        number = sum(daemon.role == role for daemon in self.daemons) + 1
        given = {f"INTERLOCK_{name}": value for name, value in {"PREFIX": self.topology.prefix, **env}.items()}
        daemon = Daemon(role, f"{role}-{number}", self.endpoints, self._logs, given)
        if role == "executor":
            daemon.child = Forked.instead_of(daemon.child, self._nursery)
        self.daemons.append(daemon)
        return daemon

    async def exit_of(self, role: Role, **env: str) -> tuple[int | None, list[dict[str, Any]]]:
        """Start a daemon that cannot run; return its exit code and the lines it said."""
        daemon = self.daemon(role, env)
        self._ended.add(daemon)
        daemon.child.start()
        code = await daemon.child.wait(40)
        return code, self.lines(daemon)

    async def _start(self, role: Role, env: Mapping[str, str]) -> Daemon:
        daemon = self.daemon(role, env)
        await daemon.start()
        await eventually(lambda: any(line["event"] == "ready" for line in self.lines(daemon)))
        return daemon

    async def stop(self, daemon: Daemon) -> int | None:
        """Let one drain and end; return its exit code."""
        self._ended.add(daemon)
        return await daemon.child.stop(grace=DRAIN)

    def kill(self, daemon: Daemon) -> None:
        """SIGKILL a daemon; of a worker, that is its guardian."""
        self._ended.add(daemon)
        daemon.child.kill()

    async def close(self) -> None:
        """Stop everything, and fail if a daemon had ended by itself or did not end well."""
        own = [daemon for daemon in self.daemons if daemon not in self._ended]
        gone = [daemon.name for daemon in own if daemon.child.exit_code is not None]
        await self._stack.aclose()
        codes: dict[str, int | None] = {}
        for role in ("worker", "executor"):
            left = [daemon for daemon in own if daemon.role == role]
            ends = await asyncio.gather(*(daemon.stop() for daemon in left))
            codes |= {daemon.name: code for daemon, code in zip(left, ends, strict=True)}
        for daemon in self._ended:
            daemon.kill()
        told = [line for daemon in self.daemons for line in self.lines(daemon) if line["level"] in LOUD]
        assert [line for line in told if line["level"] == "critical"] == [], told
        assert gone == [], told
        assert set(codes.values()) <= {0}, (codes, told)

    def lines(self, daemon: Daemon) -> list[dict[str, Any]]:
        """Return what a daemon said so far; every line must be a JSON object."""
        written, end, _ = daemon.log.read_text().rpartition("\n") if daemon.log.exists() else ("", "", "")
        return [json.loads(line) for line in written.splitlines()] if end else []

    def loud(self) -> list[dict[str, Any]]:
        """Return every line of every daemon that is a warning or worse."""
        return [line for daemon in self.daemons for line in self.lines(daemon) if line["level"] in LOUD]

    async def register(self, action: str, limit: int | None = None, **definition: object) -> None:
        """Register version 1 of an action, as `interlock actions apply` does."""
        known = Action.model_validate({"action": action, "limit": limit, **definition})
        await self.connection.execute(
            "INSERT INTO action (name, version, definition, checksum) VALUES ($1, 1, $2, $3)",
            action,
            json.dumps(known.to_stored()),
            known.checksum(),
        )
        if limit is not None:
            await self.connection.execute(
                "SELECT set_queue('leaf', $1, jsonb_build_object('lim', $2::int))", f"action:{action}", limit
            )

    async def channel(self, role: str = "client") -> AbstractChannel:
        """Return the channel of a role; it is closed at the end."""
        if role not in self._channels:
            connection = await aio_pika.connect(getattr(self._servers, role))
            await self._stack.enter_async_context(connection)
            self._channels[role] = await connection.channel(on_return_raises=True)
        return self._channels[role]

    async def publish(
        self, body: bytes, content_type: str | None, *, exchange: str = "requests", key: str = "execution.requested"
    ) -> None:
        """Publish one message as a client, whatever its bytes are."""
        role = {"requests": "client", "completions": "worker", "status": "worker"}[exchange]
        channel = await self.channel(role)
        target = await channel.get_exchange(f"{self.topology.prefix}.{exchange}", ensure=False)
        await target.publish(aio_pika.Message(body, content_type=content_type), key)

    async def submit(self, action: str, count: int = 1, **fields: object) -> list[UUID]:
        """Ask over AMQP for `count` executions, 500 in a message; return their ids in order."""
        return await self.ask([{"action": action, **fields}] * count)

    async def ask(self, requests: Sequence[Mapping[str, Any]]) -> list[UUID]:
        """Ask over AMQP for these executions, under fresh ids, 500 in a message; return the ids in order."""
        named: list[dict[str, Any]] = [{"id": str(fresh_id()), **request} for request in requests]
        for start in range(0, len(named), events.MAX_EVENTS):
            await self.publish(*events.encode(events.requested("/test", named[start : start + events.MAX_EVENTS])))
        return [UUID(request["id"]) for request in named]

    async def cancel(self, *ids: UUID, reason: str = "not wanted", force: bool = False) -> None:
        """Ask over AMQP to cancel."""
        wanted: Sequence[events.CancelRequested] = [
            events.CancelRequested(
                specversion="1.0",
                id=f"cancel/{identity}",
                source="/test",
                type="execution.cancel_requested",
                data=events.CancelRequestedData(id=identity, reason=reason, force=force),
            )
            for identity in ids
        ]
        await self.publish(*events.encode(wanted), key="execution.cancel_requested")

    async def subscribe(self, exchange: str) -> list[dict[str, Any]]:
        """Listen to everything on `status` or `completions` as a client; the list grows as events come."""
        heard: list[dict[str, Any]] = []

        async def hear(message: AbstractIncomingMessage) -> None:
            document = json.loads(message.body)
            heard.extend(document if message.content_type == events.BATCH else [document])

        channel = await self.channel()
        queue = await channel.declare_queue(f"client.{self.topology.prefix}.{exchange}", exclusive=True)
        await queue.bind(f"{self.topology.prefix}.{exchange}", "#")
        await queue.consume(hear, no_ack=True)
        return heard

    async def row(self, identity: UUID) -> asyncpg.Record:
        """Return one execution's row, once it is there."""

        async def found() -> asyncpg.Record:
            row = await self.connection.fetchrow(
                "SELECT *, status::text AS status, result::text AS result, error::text AS error"
                " FROM execution WHERE id = $1",
                identity,
            )
            assert row is not None, f"no execution {identity}"
            return row

        return await eventually(found)

    async def until(self, identity: UUID, status: str, timeout: float = 15) -> asyncpg.Record:
        """Wait until an execution has this status; return its row."""

        async def reached() -> asyncpg.Record:
            row = await self.row(identity)
            assert row["status"] == status, dict(row)
            return row

        return await eventually(reached, timeout)

    async def until_ended(self, ids: Collection[UUID], timeout: float = 20) -> Counter[str]:
        """Wait until all have ended; return how many at which status."""
        statement = "SELECT status::text FROM execution WHERE id = ANY($1) AND finished_at IS NOT NULL"

        async def ended() -> Counter[str]:
            rows = await self.connection.fetch(statement, list(ids))
            assert len(rows) == len(ids), f"{len(rows)} of {len(ids)} ended"
            return Counter(row["status"] for row in rows)

        return await eventually(ended, timeout)

    async def until_clean(self, timeout: float = 10) -> None:
        """Wait until nothing is left of what ran: no slot, no timer, no message."""

        async def clean() -> bool:
            left = {name: await self.connection.fetchval(f"SELECT count(*) FROM {name}") for name in EMPTY_AT_THE_END}  # noqa: S608 - our names
            left["active"] = await self.connection.fetchval("SELECT coalesce(sum(active + waiting), 0) FROM queue")
            assert not any(left.values()), left
            return True

        await eventually(clean, timeout)

    async def moves(self, identity: UUID) -> list[tuple[str | None, str, str]]:
        """Return the moves of one execution in order: from, to, and the role that made it."""
        rows = await self.connection.fetch(
            "SELECT source::text, target::text, split_part(actor, '/', 2) AS role FROM execution_transition"
            " WHERE execution_id = $1 ORDER BY move",
            identity,
        )
        return [(row["source"], row["target"], row["role"]) for row in rows]

    async def attempts(self, identity: UUID) -> list[tuple[int, str]]:
        """Return the ended attempts of one execution in order: number and outcome."""
        rows = await self.connection.fetch(
            "SELECT attempt, outcome FROM execution_attempt WHERE execution_id = $1 ORDER BY attempt", identity
        )
        return [(row["attempt"], row["outcome"]) for row in rows]

    async def poison(self, count: int) -> list[asyncpg.Record]:
        """Return what was parked, in order, once it is `count` or more."""

        async def parked() -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await self.connection.fetch("SELECT * FROM poison_message ORDER BY id")
            assert len(rows) >= count, [(row["reason"], row["detail"]) for row in rows]
            return rows

        return await eventually(parked)

    async def metric(self, role: Role, name: str, **labels: str) -> float:
        """Return the sum of one counter over the daemons of a role that run, and their series with these labels."""
        running = [daemon for daemon in self.daemons if daemon.role == role and daemon not in self._ended]
        async with httpx.AsyncClient(trust_env=False) as client:
            told = [(await client.get(f"{daemon.url}/metrics")).text for daemon in running]
        lines = [line for text in told for line in text.splitlines()]
        series = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in series if all(each in line for each in wanted))

    async def purge(self, queue: str) -> None:
        """Throw away the messages of one queue that nobody took yet."""
        await (await (await self.channel("amqp_url")).get_queue(queue, ensure=False)).purge()


def ids_of(heard: Iterable[Mapping[str, Any]], *targets: str) -> Counter[UUID]:
    """Count heard events by execution; with `targets`, those about a move to one of these."""
    return Counter(UUID(each["subject"]) for each in heard if not targets or each["data"].get("to") in targets)
