"""The HTTP listener of a daemon: `/livez`, `/readyz`, `/metrics`, and the routes its service adds.

Runs inside the daemon's task group, without signal handlers or access log of its own. Must not decide what is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from interlock.adapters.logs import get_logger
from interlock.contract.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request

    from interlock.adapters.lifecycle import Stop
    from interlock.adapters.telemetry import Metrics

log = get_logger(__name__)


class Readiness:
    """Named checks, each ready or not with its reason. What is `expected` is not ready until it says so."""

    def __init__(self, *expected: str) -> None:
        self._problems: dict[str, str] = dict.fromkeys(expected, "starting")

    def set(self, name: str, ok: bool, reason: str = "") -> None:  # noqa: FBT001 - reads as set("database", False, why)
        """Say how the check `name` stands; a change is logged, the same again is not."""
        before = self._problems.get(name)
        if ok:
            if self._problems.pop(name, None) not in (None, "starting"):
                log.info("ready again", check=name)
            return
        self._problems[name] = reason or "not ready"
        if before != self._problems[name]:
            log.warning("not ready", check=name, reason=self._problems[name])

    def problems(self) -> dict[str, str]:
        """Return why each check that is not ready is not."""
        return dict(self._problems)

    @property
    def ready(self) -> bool:
        """Whether every check is."""
        return not self._problems


class _Embedded(uvicorn.Server):
    """uvicorn that leaves the process's signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listening.set()


class HealthServer:
    """Serves health, metrics and `routes` on `address` (host:port, IPv6 in brackets, port 0 for any free one).

    `port` is the real one after `bind()`; `started` is set once requests are answered.
    """

    def __init__(self, address: str, readiness: Readiness, metrics: Metrics, routes: Sequence[BaseRoute] = ()) -> None:
        host, _, port = address.rpartition(":")
        self._host, self.port = host.removeprefix("[").removesuffix("]"), int(port)
        self._address = address
        self._readiness, self._metrics = readiness, metrics
        self._stop: Stop | None = None
        self._socket: socket.socket | None = None
        self.started = asyncio.Event()
        own = [Route("/livez", self._livez), Route("/readyz", self._readyz), Route("/metrics", self._metrics_page)]
        config = uvicorn.Config(
            Starlette(routes=[*own, *routes]),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Embedded(config, self.started)

    def bind(self) -> None:
        """Take the address, at once, so that a wrong one stops the start. Raises Misconfigured; again does nothing."""
        self._bound()

    async def serve(self, stop: Stop) -> None:
        """Answer requests until `close()` or cancellation: a draining process still says that it lives.

        From the moment `stop` is asked for, `/readyz` answers 503 with `draining`.
        """
        listener = self._bound()
        if self._server.should_exit:
            return
        self._stop = stop
        host = f"[{self._host}]" if ":" in self._host else self._host
        log.info("listening", url=f"http://{host}:{self.port}")
        try:
            await self._server.serve(sockets=[listener])
        except asyncio.CancelledError:
            await self._server.shutdown(sockets=[listener])
            raise
        finally:
            listener.close()

    def close(self) -> None:
        """Let `serve` end soon: requests under way get a second. Closing again does nothing."""
        self._server.should_exit = True
        if self._stop is None and self._socket is not None:
            self._socket.close()

    def _bound(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise self._misconfigured(error) from error
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise self._misconfigured(error) from error
        self._socket, self.port = listener, listener.getsockname()[1]
        return listener

    def _misconfigured(self, error: OSError) -> Misconfigured:
        reason = (error.strerror or "unknown error").lower()
        host = self._address.rpartition(":")[0]
        return Misconfigured(
            f"INTERLOCK_HTTP: cannot listen on {self._address}: {reason}; "
            f"free it or choose another (example: INTERLOCK_HTTP={host}:0 picks a free port)"
        )

    async def _livez(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        problems = self._readiness.problems()
        if self._stop is not None and self._stop.draining:
            problems["process"] = "draining"
        return JSONResponse({"ready": not problems, "problems": problems}, status_code=503 if problems else 200)

    async def _metrics_page(self, _request: Request) -> Response:
        body, content_type = self._metrics.render()
        return Response(body, media_type=content_type)
