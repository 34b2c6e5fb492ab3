"""Transactions on a pool, done again while the database says that it will pass. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from interlock.adapters.postgres import single_statements, transaction
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Pool

    from interlock.adapters.postgres import Tx

P = ParamSpec("P")
T = TypeVar("T")
PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between the tries of one call while the database says that it will pass."""


class Patience:
    """What every part of the client stands on: one pool, one transaction per call."""

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool

    async def _patiently(self, work: Callable[Concatenate[Tx, P], Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
        """Do `work` in a transaction; while the database says that it will pass, again. Work must bear a repeat."""
        return await self._again(transaction, lambda tx: work(tx, *args, **named))

    async def _at_once(self, work: Callable[Concatenate[Tx, P], Awaitable[T]], *args: P.args, **named: P.kwargs) -> T:
        """The same for what reads one statement: without a transaction, which would be two round trips more."""
        return await self._again(single_statements, lambda tx: work(tx, *args, **named))

    async def _again(
        self, opened: Callable[[Pool[Any]], AbstractAsyncContextManager[Tx]], work: Callable[[Tx], Awaitable[T]]
    ) -> T:
        for pause in PAUSES:
            try:
                async with opened(self._pool) as tx:
                    return await work(tx)
            except Transient:
                await asyncio.sleep(pause)
        async with opened(self._pool) as tx:
            return await work(tx)
