"""A gate at which running executions wait until the test lets them go: a Unix socket, seen from the test's side."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from uuid import UUID

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """One attempt that waits: its id, its number, the process that runs it and the line to it."""

    id: UUID
    attempt: int
    pid: int
    writer: asyncio.StreamWriter

    def let_go(self, answer: object = None) -> None:
        """Let it end with this JSON value; `{"fail": "why"}` makes it raise."""
        self.writer.write(json.dumps(answer).encode() + b"\n")


class Gate:
    """Listens at `path`. `waiting` are inside now, `seen` came ever, `most` is how many were inside at once."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.waiting: list[Visitor] = []
        self.seen: list[Visitor] = []
        self.most = 0
        self.most_of_one = 0
        self.decide: Callable[[Visitor], object] | None = None
        """Where set, every visitor is let go at once, with the answer that this gives."""
        self._server: asyncio.Server | None = None

    async def arrived(self, count: int, timeout: float = 15) -> list[Visitor]:
        """Return everybody who ever came, once these are `count` or more."""
        return await eventually(lambda: self.seen if len(self.seen) >= count else [], timeout)

    def let_all_go(self, answer: object = None) -> None:
        """Let go who waits now, and whoever comes later."""
        self.decide = lambda _: answer
        for visitor in self.waiting:
            visitor.let_go(answer)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = json.loads(await reader.readline())
        visitor = Visitor(id=UUID(told["id"]), attempt=told["attempt"], pid=told["pid"], writer=writer)
        self.seen.append(visitor)
        self.waiting.append(visitor)
        self.most = max(self.most, len(self.waiting))
        self.most_of_one = max(self.most_of_one, sum(other.id == visitor.id for other in self.waiting))
        if self.decide is not None:
            visitor.let_go(self.decide(visitor))
        # The end of the line says that the attempt has ended, or the process that ran it.
        await reader.read()
        self.waiting.remove(visitor)
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._receive, self.path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for visitor in self.waiting:
            visitor.writer.close()
        await self._server.wait_closed()
