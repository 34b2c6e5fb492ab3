"""Claims work: what messages offer, and from the table what no message brought. At most the free concurrency.

Law 1. The row is the truth; a message is a hint. A message is acknowledged when its claim is committed, never after the
work. What did not fit is claimed from the table as soon as there is room.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from interlock.acceptance.candidates import PLAN
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import single_statements
from interlock.contract import events
from interlock.contract.errors import Transient
from worker import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from asyncpg import Pool

    from interlock.acceptance.catalog import Catalog
    from interlock.acceptance.entries import Entry
    from interlock.adapters.outbox import Relay
    from interlock.adapters.postgres import Tx
    from interlock.adapters.subscription import Delivery, Subscription
    from interlock.adapters.telemetry import Metrics
    from worker.execute import Executions
    from worker.holdings import Holdings

FULL_SECONDS: Final = 1.0
TABLE_SECONDS: Final = 3.0
DATABASE_PAUSE_SECONDS: Final = 1.0


class Claimer:
    """The one place that claims, one claim at a time."""

    def __init__(  # noqa: PLR0913 - wired once, in service.py
        self,
        worker: UUID,
        actor: str,
        *,
        pool_name: str,
        subscription: Subscription,
        pool: Pool[Any],
        relay: Relay,
        catalog: Catalog,
        holdings: Holdings,
        executions: Executions,
        metrics: Metrics,
    ) -> None:
        self._worker = worker
        self._actor = actor
        self._pool_name = pool_name
        self._subscription = subscription
        self._pool = pool
        self._relay = relay
        self._catalog = catalog
        self._holdings = holdings
        self._executions = executions
        self._metrics = metrics
        self._one = asyncio.Lock()
        self._left = asyncio.Event()  # a message offered more than fitted: the table has it
        self._log = get_logger("claim")

    async def from_messages(self) -> None:
        """Claim what messages offer, until cancelled. Full: stop consuming, so that others get it."""
        while True:
            await self._wait_for_room()
            await self._subscription.wait()
            offers, last = self._take()
            if last is None:
                continue
            if offers:
                await self._persistently(offers)
            await self._subscription.ack(last)
            await reached("claim.acknowledged")

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(FULL_SECONDS):
                await self._holdings.room()
        except TimeoutError:
            await self._subscription.pause()
            await self._holdings.room()
            await self._subscription.resume()

    def _take(self) -> tuple[list[tuple[UUID, int]], Delivery | None]:
        offers: list[tuple[UUID, int]] = []
        last = None
        while len(offers) < self._holdings.free and (delivery := self._subscription.pop()) is not None:
            last = delivery
            found, unusable = events.decode(delivery.body, delivery.content_type)
            offers += [(e.data.id, e.data.attempt) for e in found if type(e) is events.Scheduled]
            for bad in unusable:
                # Only executors may write here, and the row is the truth: nothing is lost with a broken hint.
                self._log.error("not a dispatch", reason=bad.reason, detail=bad.detail)
                self._metrics.messages.labels("execution.scheduled", "poison").inc()
        return offers, last

    async def _persistently(self, offers: list[tuple[UUID, int]]) -> None:
        while True:
            try:
                return await self._claim_offered(offers)
            except Transient as error:
                self._log.warning("claiming waits for the database", reason=str(error))
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)

    async def _claim_offered(self, offers: list[tuple[UUID, int]]) -> None:
        async with self._one:
            fit = offers[: self._holdings.free]
            if len(fit) < len(offers):
                self._left.set()
            if fit:
                await self._claim(lambda tx: store.claim(tx, self._worker, fit, self._actor))
        self._metrics.messages.labels("execution.scheduled", "processed").inc(len(offers))

    async def left_behind(self) -> None:
        """Claim from the table what a message offered and did not fit, as soon as there is room."""
        while True:
            await self._left.wait()
            await self._holdings.room()
            if not await self._from_table(older=0.0):
                self._left.clear()

    async def from_table(self) -> None:
        """Claim what has waited for a message in vain, every few seconds."""
        while True:
            await asyncio.sleep(TABLE_SECONDS)
            if self._holdings.free > 0 and await self._from_table(older=TABLE_SECONDS):
                self._left.set()

    async def _from_table(self, *, older: float) -> bool:
        """Whether as many were found as were wanted, so that there may be more."""
        try:
            async with self._one:
                most = min(self._holdings.free, 500)
                if most <= 0:
                    return True
                found = await self._claim(
                    lambda tx: store.claim_from_table(
                        tx, self._worker, pool=self._pool_name, most=most, older=older, actor=self._actor
                    )
                )
        except Transient as error:
            self._log.warning("claiming waits for the database", reason=str(error))
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
            return True
        if found and older:
            self._log.info("claimed from the table", executions=found)
        return found == most

    async def _claim(self, statement: Callable[[Tx], Awaitable[store.Claim]]) -> int:
        with self._holdings.claim():
            await reached("claim.taken")
            async with single_statements(self._pool) as tx:
                claim = await statement(tx)
            await reached("claim.committed")
            self._relay.offer(claim.messages)
            pinned = {(c["action"], c["action_version"]) for c in claim.claimed if c["action"] != PLAN}
            entries = await self._definitions(pinned)
            for claimed in claim.claimed:
                self._executions.start(claimed, entries.get((claimed["action"], claimed["action_version"])))
            await reached("claim.started")
        if claim.claimed:
            self._metrics.flush_size.labels("claim").observe(len(claim.claimed))
        return len(claim.claimed)

    async def _definitions(self, pairs: set[tuple[str, int]]) -> dict[tuple[str, int], Entry]:
        """The definitions of what is ours by now, waited for: nobody else may run it."""
        while True:
            try:
                async with single_statements(self._pool) as tx:
                    return await self._catalog.pinned(tx, pairs)
            except Transient as error:
                self._log.warning("definitions wait for the database", reason=str(error))
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)
