"""Moves on what a lost worker held. Judges leases only, by the database's clock: never ages, counters or depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from executor import store
from executor.rules.loss import after_loss
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.contract.status import Status

if TYPE_CHECKING:
    from executor.loops.periodic import Context

GAP_SECONDS: Final = 15.0
GAP_PERIODS: Final = 5
"""A gap in all looks is so many periods of whoever looks, and at least so many seconds."""
FEW_WORKERS: Final = 3
"""So many may be lost at once and are believed to be; of more than these, a third."""


class Reaper:
    """One pass a period. After a gap in all reapers' passes it only observes, until workers had time to renew.

    When many leases have ended at once it brakes: they are lost if another pass finds the same one lease later.
    """

    def __init__(self, lease_seconds: float, *, period_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._gap_seconds = max(GAP_SECONDS, GAP_PERIODS * period_seconds)
        self._log = get_logger("reaper")

    async def __call__(self, context: Context) -> None:
        """Hand back or end what expired leases hold, then close those workers."""
        async with context.transaction() as tx:
            tick = await store.tick(
                tx, gap_seconds=self._gap_seconds, lease_seconds=self._lease_seconds, few_workers=FEW_WORKERS
            )
            waits = tick.observing or tick.braking
            lost = [] if waits else await store.lost_executions(tx)
            stranded = await store.stranded_executions(tx)
        await reached("reaper.read")
        if tick.noticed:
            context.metrics.reaper_brakes.inc()
            self._log.warning(
                "many leases ended at once, so nobody is declared lost before a second look",
                expired=tick.expired,
                workers=tick.workers,
                seconds=self._lease_seconds,
            )
        decisions = [
            store.Decision(
                id=row["execution_id"],
                attempt=row["attempt"],
                target=after_loss(Status(row["status"]), row["losses"], row["cancel_reason"]),
            )
            for row in lost
        ]
        if decisions:
            await self._move(context, decisions, "worker lost")
        if stranded:
            back = [
                store.Decision(id=row["execution_id"], attempt=row["attempt"], target=Status.REQUESTED)
                for row in stranded
            ]
            await self._move(context, back, "not started within the start deadline")
        if not waits:
            await self._close(context)

    async def _move(self, context: Context, decisions: list[store.Decision], reason: str) -> None:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, decisions=decisions, reason=reason)
        await reached("reaper.moved")
        self._log.info("moved on", reason=reason, executions=len(admission.decided))
        context.offer(admission)

    async def _close(self, context: Context) -> None:
        async with context.transaction() as tx:
            ended = await store.end_workers(tx)
        await reached("reaper.closed")
        for worker in ended:
            context.metrics.leases_expired.inc()
            self._log.warning("worker lost", worker_id=str(worker["id"]), host=worker["host"], pid=worker["pid"])
