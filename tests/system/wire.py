"""A TCP proxy between daemons and a server, whose lines a test can cut or silence. Looks into nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType


class Wire:
    """Listens on a free port and forwards to the server of `url`; `url_through` is the same address through it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._lines: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self.refusing = False
        self.passed = 0
        """Bytes that went through, both ways."""
        self.port = 0

    def url_through(self, url: str, query: str = "") -> str:
        """Return `url` with this proxy in the place of its server."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=query or parts.query))

    def has_passed(self, count: int) -> bool:
        """Whether `count` bytes went through by now."""
        return self.passed >= count

    def cut(self) -> None:
        """End every line at once; new ones may be made."""
        for writer in list(self._lines):
            writer.transport.abort()

    def silence(self) -> None:
        """Keep every line open and let nothing pass."""
        self._open.clear()

    def restore(self) -> None:
        """Let everything pass again."""
        self.refusing = False
        self._open.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._lines |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, far_writer))
                both.create_task(self._pass_on(far_reader, writer))
        finally:
            self._lines -= {writer, far_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                self.passed += len(data)
                await writer.drain()
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.restore()
        self.cut()
        await self._server.wait_closed()
