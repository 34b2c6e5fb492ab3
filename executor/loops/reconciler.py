"""Heals what lost hints left behind, from the rows alone. Each repair is counted: in good weather there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from executor import batch_store, store
from executor.handlers.callbacks import call_back
from executor.handlers.parents import drive
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.contract.status import Status

if TYPE_CHECKING:
    from executor.loops.periodic import Context

IDLE_SECONDS: Final = 86_400.0
FOLD_SECONDS: Final = 86_400.0
CHUNK: Final = 500


async def reconciler(context: Context) -> None:
    """Release slots of ended executions, honour cancels that crossed with their request, make partitions ahead."""
    async with context.transaction() as tx:
        leaked = await store.leaked_slots(tx)
        tombstones = await store.late_tombstones(tx)
        claimed = await store.claimed_keys(tx)
    await reached("reconciler.read")
    if claimed:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, keys=claimed)
        await reached("reconciler.claims_admitted")
        context.offer(admission)
    if leaked:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, ended=leaked)
        await reached("reconciler.slots_released")
        context.repaired("slot", admission.released)
        context.offer(admission)
    if tombstones:
        async with context.transaction() as tx:
            ids = [row["execution_id"] for row in tombstones]
            decisions = [store.Decision(id=identity, target=Status.CANCELLED) for identity in ids]
            admission = await store.admit(tx, context.actor, decisions=decisions, reason=tombstones[0]["reason"])
            await store.unbury(tx, ids)
        await reached("reconciler.cancels_honoured")
        context.repaired("cancel", len(ids))
        context.offer(admission)


class Batches:
    """Drives on the open batches in which nothing happened for a while: what told of the last thing may be lost.

    A pass that is cut short goes on at its next turn behind the batch that it stopped at, so that none waits for ever.
    """

    def __init__(self) -> None:
        self._after = UUID(int=0)

    async def __call__(self, context: Context) -> None:
        """Go through them once, then call back what is due."""
        while True:
            async with context.transaction() as tx:
                stalled = await batch_store.open_batches(tx, self._after, CHUNK)
            for identity in stalled:
                self._after = identity
                # One transaction each: a batch to cancel locks the keys of its partitions, and keys are locked once.
                async with context.transaction() as tx:
                    outgoing = await drive(tx, [identity], context.actor, context.catalog)
                await reached("reconciler.batch_driven")
                context.repaired("batch", len(outgoing.ended))
                context.relay.offer(outgoing.messages)
            if len(stalled) < CHUNK:
                break
        self._after = UUID(int=0)
        async with context.transaction() as tx:
            outgoing = await call_back(tx, None, context.actor, context.catalog)
        context.relay.offer(outgoing.messages)


async def housekeeping(context: Context) -> None:
    """Forget lanes and keys that nobody used for a day, and fold the minutes that no percentile asks for any more."""
    async with context.transaction() as tx:
        forgotten = await store.forget_idle(tx, idle_seconds=IDLE_SECONDS)
    async with context.transaction() as tx:
        await store.fold_minutes(tx, older_seconds=FOLD_SECONDS)
    if forgotten["lanes"]:
        get_logger("housekeeping").info("forgot what was idle", lanes=forgotten["lanes"], keys=forgotten["keys"])


async def partitions(context: Context) -> None:
    """Make the history partitions of the coming weeks."""
    async with context.transaction() as tx:
        await store.make_partitions(tx)
