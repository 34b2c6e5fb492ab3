"""From a batch to its rows: the candidates for its planning and its partitions, and the statements that take them.

Law 7. A parent never holds what its children need: the keys of a batch are those of its partitions, never its own.
"""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.acceptance.candidates import Candidate, LaneKey, refusal
from interlock.acceptance.lanes import lanes
from interlock.actions.rendering import render_keys
from interlock.adapters.statements import Statements
from interlock.contract.canonical import canonical_json
from interlock.contract.errors import Refused
from interlock.contract.identity import child_id
from interlock.contract.keys import Bounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pydantic import JsonValue

    from interlock.acceptance.entries import Entry
    from interlock.adapters.postgres import Tx
    from interlock.contract.batches import Batch

_SQL = Statements("interlock.acceptance")


class Parent(NamedTuple):
    """A batch whose partitions are made: its id, its present epoch and its pinned definition."""

    id: UUID
    epoch: int
    batch: Batch


class Step(NamedTuple):
    """One step of a planning: whose (execution, attempt, worker), from which item on, how many, and whether the last.

    `digest` is over the keys of all items up to here.
    """

    plan: UUID
    attempt: int
    worker: UUID
    cursor: int
    items: int
    digest: str
    whole: bool


def partition_candidate(parent: Parent, entry: Entry, key: str, params: Mapping[str, JsonValue]) -> Candidate:
    """Return one partition. Parameters that its action refuses make it one that fails, not a plan that does."""
    action, batch = entry.action, parent.batch
    error, text = None, "{}"
    keys: tuple[LaneKey, ...] = ()
    try:
        entry.schema.check(params)
        text = canonical_json(dict(params))
        keys = (
            LaneKey("leaf", action.own_key, action.own_key, action),
            LaneKey("pool", action.pool),
            LaneKey("leaf", f"batch:{parent.id}", None, Bounds(limit=batch.max_parallel)),
            *(LaneKey("leaf", name, known.name, known) for name, known in render_keys(action, params)),
        )
    except Refused as refused:
        error = refusal(refused.code, str(refused))
    except ValueError as invalid:
        error = refusal("invalid_params", f"params: {invalid}")
    return Candidate(
        id=child_id(parent.id, parent.epoch, key),
        action=action.action,
        version=entry.version,
        pool=action.pool,
        priority=batch.priority,
        keys=keys,
        params=text,
        hash=hashlib.sha256(text.encode()).digest(),
        tags="[]",
        not_before=None,
        deadline=None,
        queue_timeout=action.timeout.queue,
        total_timeout=action.timeout.total,
        idempotency_key=None,
        error=error,
        parent=parent.id,
        child_key=key,
        epoch=parent.epoch,
    )


async def add_partitions(tx: Tx, batch: UUID, partitions: Sequence[Candidate], actor: str) -> set[UUID] | None:
    """Add partitions to a batch; returns those that are new, or None if it takes none. Must be the first to lock."""
    partitions = sorted(partitions, key=attrgetter("id"))
    row = await tx.fetchrow(_SQL["add_partitions"], batch, *await _columns(tx, partitions), actor)
    assert row is not None  # noqa: S101 - the function returns exactly one row
    return None if row["added"] is None else set(row["added"])


async def plan_chunk(tx: Tx, step: Step, partitions: Sequence[Candidate], actor: str) -> bool:
    """Commit one step of a planning; False when the fence is lost or another attempt has taken this step."""
    partitions = sorted(partitions, key=attrgetter("id"))
    row = await tx.fetchrow(_SQL["plan_chunk"], *step, *await _columns(tx, partitions), actor)
    return row is not None and row["added"] is not None


async def _columns(tx: Tx, partitions: Sequence[Candidate]) -> list[list[Any]]:
    known = await lanes(tx, partitions)
    return [
        [c.id for c in partitions],
        [c.child_key for c in partitions],
        [c.action for c in partitions],
        [c.version for c in partitions],
        [c.pool for c in partitions],
        [c.priority for c in partitions],
        known,
        [c.params for c in partitions],
        [c.hash for c in partitions],
        [c.error for c in partitions],
        [c.queue_timeout for c in partitions],
        [c.total_timeout for c in partitions],
    ]
