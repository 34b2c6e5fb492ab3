"""Heals what lost hints left behind, from the rows alone. Each repair is counted: in good weather there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor import store
from interlock.contract.status import Status

if TYPE_CHECKING:
    from executor.loops.periodic import Context


async def reconciler(context: Context) -> None:
    """Release slots of ended executions, honour cancels that crossed with their request, make partitions ahead."""
    async with context.transaction() as tx:
        leaked = await store.leaked_slots(tx)
        tombstones = await store.late_tombstones(tx)
    if leaked:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, ended=leaked)
        context.repaired("slot", admission.released)
        context.offer(admission)
    if tombstones:
        async with context.transaction() as tx:
            ids = [row["execution_id"] for row in tombstones]
            decisions = [store.Decision(id=identity, target=Status.CANCELLED) for identity in ids]
            admission = await store.admit(tx, context.actor, decisions=decisions, reason=tombstones[0]["reason"])
            await store.unbury(tx, ids)
        context.repaired("cancel", len(ids))
        context.offer(admission)


async def partitions(context: Context) -> None:
    """Make the history partitions of the coming weeks."""
    async with context.transaction() as tx:
        await store.make_partitions(tx)
