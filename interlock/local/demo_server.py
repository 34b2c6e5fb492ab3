"""A small HTTP server on the loopback interface that hands back what was stored in it: GET /results/<name>.

One answer a connection, from memory. It is there for the demo's `http` action to have somebody to ask.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import JsonValue

PATH: Final = "/results/"
REQUEST_SECONDS: Final = 5.0
LARGEST_HEAD: Final = 16 * 1024


class ResultServer:
    """Serves stored JSON values by name. `async with ResultServer() as server: server.port`."""

    def __init__(self) -> None:
        self._results: dict[str, bytes] = {}
        self._server: asyncio.Server | None = None
        self.served = 0

    @property
    def port(self) -> int:
        """The port of 127.0.0.1 on which it listens."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def store(self, value: JsonValue) -> str:
        """Keep a value and return its name: the SHA-256 of its JSON."""
        body = json.dumps(value, sort_keys=True).encode()
        name = hashlib.sha256(body).hexdigest()
        self._results[name] = body
        return name

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, limit=LARGEST_HEAD)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = self._found(head.split(b"\r\n", 1)[0].decode("latin-1"))
                writer.write(_head(status, len(body)) + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # Whoever asked so is gone, or gets no answer; a worker will ask again.
        finally:
            writer.close()

    def _found(self, line: str) -> tuple[HTTPStatus, bytes]:
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0]
        if method != "GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, b'{"error": "only GET"}'
        body = self._results.get(path.removeprefix(PATH)) if path.startswith(PATH) else None
        if body is None:
            return HTTPStatus.NOT_FOUND, b'{"error": "no such result"}'
        self.served += 1
        return HTTPStatus.OK, body


def _head(status: HTTPStatus, length: int) -> bytes:
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
