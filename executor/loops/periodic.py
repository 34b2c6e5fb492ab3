"""What every loop shares: its period, its transactions, and what happens when one pass fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import transaction
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Pool

    from executor.store import Admission
    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.health import Readiness
    from interlock.adapters.outbox import Relay
    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a pass may use."""

    pool: Pool[Any]
    relay: Relay
    actor: str
    catalog: Catalog
    metrics: Metrics
    readiness: Readiness

    def transaction(self) -> AbstractAsyncContextManager[Tx]:
        """A transaction of the pass's own."""
        return transaction(self.pool)

    def offer(self, admission: Admission) -> None:
        """Publish what a committed admission wrote."""
        self.relay.offer(admission.messages)

    def repaired(self, kind: str, count: int) -> None:
        """Count repairs; a repair is a sign that a message was lost."""
        if count:
            self.metrics.repairs.labels(kind).inc(count)
            get_logger("reconciler").info("repaired", kind=kind, count=count)


async def every(seconds: float, run: Callable[[Context], Awaitable[float | None]], context: Context) -> None:
    """Call `run` every `seconds` until cancelled, sooner if it says so (in seconds from its end).

    A pass that fails in passing is made up for by the next.
    """
    pause = seconds
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            sooner = await run(context)
            pause = seconds if sooner is None else min(seconds, sooner)
            context.readiness.set("database", ok=True)
        except Transient as error:
            context.readiness.set("database", ok=False, reason=str(error))
            get_logger("loops").info("postponed", loop=getattr(run, "__name__", type(run).__name__), reason=str(error))
