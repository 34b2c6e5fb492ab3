"""The lease of one incarnation: renewed from a connection of its own, with the set of what is held.

An expired lease is never renewed: this incarnation ends, and its guardian starts another. The answer of a renewal says
what the table gives us that we do not hold (handed back), what is to be cancelled, and what is ours no more.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import transaction
from interlock.contract.errors import InterlockError, Transient
from interlock.contract.status import Status
from worker import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Pool, Record

    from interlock.adapters.health import Readiness
    from interlock.adapters.lifecycle import Stop
    from worker.finish import Finisher
    from worker.heartbeat import Heartbeat
    from worker.holdings import Holdings

AGAIN_SECONDS: Final = 1.0


class LeaseLost(InterlockError):
    """The lease ended before it could be renewed: others may have our executions by now."""


class Lease:
    """Renews every `renew` seconds for `length` seconds."""

    def __init__(  # noqa: PLR0913 - wired once, in service.py
        self,
        worker: UUID,
        *,
        pool: Pool[Any],
        length: float,
        renew: float,
        holdings: Holdings,
        finisher: Finisher,
        heartbeat: Heartbeat | None,
        stop: Stop,
        readiness: Readiness,
        clock: Callable[[], datetime],
    ) -> None:
        self._worker = worker
        self._pool = pool
        self._length = length
        self._renew = renew
        self._holdings = holdings
        self._finisher = finisher
        self._heartbeat = heartbeat
        self._stop = stop
        self._readiness = readiness
        self._clock = clock
        self._unknown: set[tuple[UUID, int]] = set()
        self._log = get_logger("lease")

    def beat(self, sent_at: float) -> None:
        """Tell the guardian when a good renewal was sent."""
        if self._heartbeat is not None:
            self._heartbeat.beat(sent_at)

    async def run(self) -> None:
        """Renew until cancelled. Raises LeaseLost when the lease has ended."""
        while True:
            pause = self._renew
            sent_at = time.monotonic()
            try:
                await reached("lease.renewing")
                async with asyncio.timeout(self._renew), transaction(self._pool) as tx:
                    # A renewal that a crash of the database forgets is a lease that ends early: safe, and no disk wait.
                    await tx.execute("SET LOCAL synchronous_commit = off")
                    answer = await store.renew(tx, self._worker, self._length, self._holdings.pairs())
                await reached("lease.renewed")
            except (Transient, TimeoutError) as error:
                self._readiness.set("lease", ok=False, reason=f"not renewed: {error or type(error).__name__}")
                pause = AGAIN_SECONDS
            else:
                if answer["draining"] is None:
                    raise LeaseLost("the lease ended before it was renewed: this incarnation ends")
                self.beat(sent_at)
                self._readiness.set("lease", ok=True)
                self._follow(answer)
            await asyncio.sleep(pause)

    def _follow(self, answer: Record) -> None:
        for identity in answer["cancelled"]:
            self._holdings.end(identity, "cancelled")
        for identity in answer["forced"]:
            self._holdings.force(identity)
        for identity in answer["gone"]:
            self._holdings.end(identity, "gone")
        if answer["draining"]:
            self._stop.request()
        if self._holdings.claiming:
            return  # what is being claimed is the table's already and not entered here yet
        unknown = {(identity, attempt) for identity, attempt in answer["unknown"] if identity not in self._holdings}
        # Twice in a row and no claim under way: its claim was committed and its answer was lost.
        for identity, attempt in unknown & self._unknown:
            self._log.warning("handed back what this worker does not know of", execution_id=str(identity))
            self._finisher.put(_handed_back(identity, attempt, self._clock()))
        self._unknown = unknown


def _handed_back(identity: UUID, attempt: int, now: datetime) -> store.Finish:
    return store.Finish(
        id=identity,
        action="",
        attempt=attempt,
        target=Status.REQUESTED,
        outcome="handed_back",
        result=None,
        error=None,
        error_class=None,
        error_text=None,
        fingerprint=None,
        exit_code=None,
        delay=0.0,
        started_at=now,
    )
