"""Starts the actions that a batch names for what happens to it, each once, as executions of their own.

Law 5. Handling twice equals handling once: an execution's id comes from its batch, epoch and event, so the primary key
refuses a second one, and what is noted behind it may be noted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from executor import batch_store
from executor.handlers.outgoing import Outgoing
from interlock.acceptance.partitions import notification_candidate
from interlock.acceptance.store import insert
from interlock.actions.partitions import notification
from interlock.adapters.logs import get_logger
from interlock.contract.batches import COUNTED, Batch
from interlock.contract.errors import InvalidParams, UnknownAction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from asyncpg import Record

    from interlock.acceptance.candidates import Candidate
    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.postgres import Tx
    from interlock.contract.batches import Notify

CHUNK: Final = 500


async def call_back(tx: Tx, batches: Sequence[UUID] | None, actor: str, catalog: Catalog) -> Outgoing:
    """Request what is due for these batches, or for any. Each statement may be repeated."""
    outgoing = Outgoing()
    due = await batch_store.due_callbacks(tx, batches, CHUNK)
    if not due:
        return outgoing
    accepted = await insert(tx, [await _candidate(tx, each, catalog) for each in due], actor)
    outgoing.messages += accepted["messages"] or []
    outgoing.more += accepted["more"] or []
    await batch_store.called_back(tx, due)
    get_logger("callbacks").info("requested", callbacks=len(due))
    return outgoing


async def _candidate(tx: Tx, due: Record, catalog: Catalog) -> Candidate:
    """Build the execution; a name or a template that does not hold is its refusal, for everybody to see."""
    notify = _wanted(Batch.from_stored(due["definition"]), due["event"])
    facts = {name: due[name] for name in ("name", "event", "status", "epoch", "total", *COUNTED)}
    key = (due["id"], due["epoch"], due["event"])
    try:
        entry = await catalog.runnable(tx, notify.action)
        params = notification(notify, orjson.loads(due["params"]), {"id": str(due["id"]), **facts})
    except (UnknownAction, InvalidParams) as refused:
        return notification_candidate(*key, notify.action, None, refused)
    return notification_candidate(*key, notify.action, entry, params)


def _wanted(batch: Batch, event: str) -> Notify:
    return next(notify for notify in batch.notify if event in notify.on)
