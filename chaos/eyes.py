"""A pair of eyes on the database that outlives its outages: each look is made until it succeeds."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from interlock.adapters.postgres import mapped_errors
from interlock.adapters.statements import Statements
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Sequence

SQL: Final = Statements("chaos")
PATIENCE: Final = 90.0
PAUSE: Final = 0.1


class Eyes:
    """One connection, made anew whenever it breaks. Raises Transient after PATIENCE seconds without an answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._one = asyncio.Lock()
        self._connection: asyncpg.Connection[Any] | None = None

    async def fetch(self, name: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Return the rows of the statement called `name`; a statement that writes must bear a repeat."""
        return await self.run(SQL[name], *arguments)

    async def value(self, name: str, *arguments: object) -> Any:  # noqa: ANN401 - what the statement says
        """Return the one value that the statement called `name` asks for."""
        return (await self.fetch(name, *arguments))[0][0]

    async def run(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Return the rows of a statement given as text."""
        deadline = monotonic() + PATIENCE
        while True:
            try:
                async with self._one:
                    return await self._try(statement, *arguments)
            except Transient:
                self._drop()
                if monotonic() > deadline:
                    raise
            await asyncio.sleep(PAUSE)

    async def _try(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        with mapped_errors():
            if self._connection is None or self._connection.is_closed():
                # Not the daemons' settings: these looks are at whole tables.
                settings = {"application_name": "interlock-chaos", "jit": "off"}
                self._connection = await asyncpg.connect(self._url, timeout=5, server_settings=settings)
            found: list[asyncpg.Record] = await self._connection.fetch(statement, *arguments, timeout=60)
            return found

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End the connection."""
        self._drop()
