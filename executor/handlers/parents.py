"""Drives batches on: ends them on their counts, gives up on those that failed, cancels what is left of them.

Law 5. Handling twice equals handling once: it looks at rows alone, so it is called for every hint about a child, new or
repeated, and by the reconciler. The end is one conditional update; whoever comes second finds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from executor import batch_store, store
from executor.handlers.callbacks import call_back
from executor.handlers.outgoing import Outgoing
from executor.rules.batch import FAILED, Deed, Standing, Step, next_step
from executor.rules.partition import Counts
from interlock.adapters.logs import get_logger
from interlock.contract.batches import COUNTED, Batch
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from asyncpg import Record

    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.postgres import Tx

CHUNK: Final = 500
_COUNTS: Final = ("total", *COUNTED)


async def drive(tx: Tx, ids: Collection[UUID], actor: str, catalog: Catalog) -> Outgoing:
    """Do what is due about those of these executions that are batches. Each statement may be repeated."""
    outgoing = Outgoing()
    ends: list[batch_store.BatchEnd] = []
    for row in await batch_store.batches(tx, sorted(ids)):
        standing = _standing(row)
        step = next_step(standing)
        if step.deed is Deed.END:
            ends.append(_end(standing, step))
        elif step.deed is Deed.GIVE_UP:
            decision = store.Decision(id=standing.id, target=Status.CANCELLING)
            outgoing.add(await store.admit(tx, actor, decisions=[decision], reason=step.reason or ""))
        elif step.deed is Deed.CANCEL_OPEN:
            await _cancel_open(tx, standing, actor, outgoing)
    if ends:
        messages, ended = await batch_store.end_batches(tx, ends, actor)
        outgoing.messages += messages
        outgoing.ended += ended
        get_logger("parents").info("ended", batches=len(ended))
    outgoing.add(await call_back(tx, sorted(ids), actor, catalog))
    return outgoing


async def _cancel_open(tx: Tx, standing: Standing, actor: str, outgoing: Outgoing) -> None:
    """Cancel the next chunk of what is open. What that ends is told, and whoever hears of it comes here again."""
    open_children = await batch_store.open_children(tx, standing.id, CHUNK, drains=standing.drains)
    decisions = [store.Decision(id=identity, target=Status.CANCELLED) for identity in open_children]
    if decisions:
        reason = f"the batch was cancelled: {standing.reason}"
        outgoing.add(await store.admit(tx, actor, decisions=decisions, reason=reason))


def _standing(row: Record) -> Standing:
    plan = row["plan_status"]
    return Standing(
        id=row["id"],
        epoch=row["epoch"],
        status=Status(row["status"]),
        reason=row["cancel_reason"],
        counts=Counts(**{name: row[name] for name in _COUNTS}),
        sealed=row["sealed"],
        planned=row["planned"],
        plan=None if plan is None else Status(plan),
        plan_error=row["plan_error"],
        drains=row["drains"],
        batch=Batch.from_stored(row["definition"]),
    )


def _end(standing: Standing, step: Step) -> batch_store.BatchEnd:
    assert step.target is not None  # noqa: S101 - what ends has a target
    counts = {name: getattr(standing.counts, name) for name in _COUNTS}
    error = None
    if step.target in (Status.FAILED, Status.TIMED_OUT):
        failed = standing.counts.failures
        message = (step.reason or f"{failed} of {standing.counts.total} partitions failed").removeprefix(FAILED)
        error = orjson.dumps({"class": str(step.target), "message": message}).decode()
    return batch_store.BatchEnd(
        id=standing.id,
        epoch=standing.epoch,
        target=step.target,
        result=orjson.dumps(counts).decode(),
        error=error,
        reason=step.reason,
    )
