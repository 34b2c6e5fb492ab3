"""Executors and workers as child processes on a stack: for `interlock up`, the demo, tests and the benchmark."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Literal, Self

from interlock.contract.errors import Unavailable
from interlock.local.children import Child, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from interlock.local.stack import Endpoints

Role = Literal["executor", "worker"]
START: Final = 60.0
"""Seconds a daemon may need until it is ready."""
DRAIN: Final = 45.0
"""Seconds a daemon may need to end: its own drain time and some."""


WATCH: Final = 0.25
"""Seconds between two looks at whether all are still there."""


def inherited() -> dict[str, str]:
    """Return our environment for a child that is told the addresses itself: none of ours, in no form."""
    ours = ("INTERLOCK_DATABASE_URL", "INTERLOCK_AMQP_URL", "INTERLOCK_HTTP")
    without = {*ours, *(f"{name}_FILE" for name in ours), "NOTIFY_SOCKET", "WATCHDOG_USEC"}
    return {name: value for name, value in os.environ.items() if name not in without}


class Daemon:
    """One executor or worker, with its broker rights, a free port for HTTP and a log file of its own."""

    def __init__(self, role: Role, name: str, endpoints: Endpoints, logs: Path, env: Mapping[str, str]) -> None:
        self.role = role
        self.name = name
        self.port = free_port()
        self.child = Child(
            name,
            [sys.executable, "-m", role],
            log=logs / f"{name}.log",
            env={
                **inherited(),
                "INTERLOCK_DATABASE_URL": endpoints.database_url,
                "INTERLOCK_AMQP_URL": endpoints.executor if role == "executor" else endpoints.worker,
                "INTERLOCK_HTTP": f"127.0.0.1:{self.port}",
                **env,
            },
        )

    @property
    def pid(self) -> int:
        """The process id: of a worker, that of its guardian."""
        return self.child.pid

    @property
    def log(self) -> Path:
        """The file with everything it said."""
        return self.child.log

    @property
    def url(self) -> str:
        """The address of its HTTP listener."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises Unavailable, with the end of its log, if it will not be."""
        self.child.start()
        await self.child.until(self.is_ready, within=START)

    async def stop(self) -> int | None:
        """Let it drain and end; return its exit code. Idempotent."""
        return await self.child.stop(grace=DRAIN)

    def kill(self) -> None:
        """End it and everything in its session at once, as a crash would."""
        self.child.kill()

    async def is_ready(self) -> bool:
        """Ask `/readyz`."""
        try:
            async with asyncio.timeout(5):
                return await self._status_of("/readyz") == b"200"
        except (OSError, TimeoutError):
            return False

    async def _status_of(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return (await reader.readline()).partition(b" ")[2][:3]
        finally:
            writer.close()


class Daemons:
    """A set of daemons that end together, workers first. `async with Daemons(endpoints, logs=…) as daemons:`.

    `env` is added to everybody's environment. More may be started, and any of them stopped or killed, while inside.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        logs: Path,
        executors: int = 1,
        workers: int = 1,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._logs = logs
        self._first = {"executor": executors, "worker": workers}
        self._env = dict(env or {})
        self._all: list[Daemon] = []

    @property
    def executors(self) -> list[Daemon]:
        """All executors ever started here, in order."""
        return [daemon for daemon in self._all if daemon.role == "executor"]

    @property
    def workers(self) -> list[Daemon]:
        """All workers ever started here, in order."""
        return [daemon for daemon in self._all if daemon.role == "worker"]

    async def add_executor(self, env: Mapping[str, str] | None = None) -> Daemon:
        """Start one more executor, with `env` added for it alone, and wait until it is ready."""
        return await self._started(self._new("executor", env))

    async def add_worker(self, env: Mapping[str, str] | None = None) -> Daemon:
        """Start one more worker, with `env` added for it alone, and wait until it is ready."""
        return await self._started(self._new("worker", env))

    async def start(self) -> None:
        """Start the first ones, all at once. Raises Unavailable, with nothing left running."""
        roles: tuple[Role, Role] = ("executor", "worker")
        first = [self._new(role) for role in roles for _ in range(self._first[role])]
        try:
            async with AsyncExitStack() as undo:
                # Failed or cancelled: nothing may outlive the attempt.
                undo.push_async_callback(self.stop)
                async with asyncio.TaskGroup() as starting:
                    for daemon in first:
                        starting.create_task(daemon.start())
                undo.pop_all()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def stop(self) -> None:
        """Stop all of them, workers before executors, so that what workers still say finds a reader. Idempotent."""
        for group in (self.workers, self.executors):
            await asyncio.gather(*(daemon.stop() for daemon in group))

    def kill(self) -> None:
        """End all of them at once."""
        for daemon in self._all:
            daemon.kill()

    async def watch(self) -> None:
        """Raise Unavailable as soon as one of them ends; does not return before."""
        while True:
            for daemon in self._all:
                if daemon.child.exit_code is not None:
                    raise Unavailable(f"{daemon.name} ended with exit code {daemon.child.exit_code}: see {daemon.log}")
            await asyncio.sleep(WATCH)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _new(self, role: Role, env: Mapping[str, str] | None = None) -> Daemon:
        number = sum(daemon.role == role for daemon in self._all) + 1
        daemon = Daemon(role, f"{role}-{number}", self._endpoints, self._logs, {**self._env, **(env or {})})
        self._all.append(daemon)
        return daemon

    async def _started(self, daemon: Daemon) -> Daemon:
        await daemon.start()
        return daemon
