"""From a batch to its rows: the candidates for its planning and its partitions, and the statements that take them.

Law 7. A parent never holds what its children need: the keys of a batch are those of its partitions, never its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from interlock.acceptance.candidates import Candidate, LaneKey, column, refusal
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


@dataclass(frozen=True)
class Parent:
    """A batch whose partitions are made: its id, its present epoch and its pinned definition."""

    id: UUID
    epoch: int
    batch: Batch

    @cached_property
    def key(self) -> LaneKey:
        """The key that all its partitions have; made once."""
        return LaneKey("leaf", f"batch:{self.id}", None, Bounds(limit=self.batch.max_parallel))


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
    """Return one partition. Parameters that its action refuses make it one that fails, not a plan that does.

    It keeps them, as a restart makes it again from its row. They were rendered or stored before: a row can hold them.
    """
    leaf = _leaf(child_id(parent.id, parent.epoch, key), entry, params, parent.key)
    leaf.priority = parent.batch.priority
    leaf.parent, leaf.child_key, leaf.epoch = parent.id, key, parent.epoch
    return leaf


def notification_candidate(
    batch: UUID, epoch: int, event: str, action: str, entry: Entry | None, params: Mapping[str, JsonValue] | Refused
) -> Candidate:
    """Return the execution that an event of a batch starts, or its refusal. It is no child: it does not count."""
    identity = child_id(batch, epoch, f"$notify/{event}")
    tags = canonical_json([f"batch:{batch}"])
    if entry is None or isinstance(params, Refused):
        assert isinstance(params, Refused)  # noqa: S101 - without an entry there is a refusal
        leaf = _blank(identity, action, None, "default")
        leaf.error = refusal(params.code, str(params))
    else:
        leaf = _leaf(identity, entry, params)
    leaf.tags = tags
    return leaf


def _leaf(identity: UUID, entry: Entry, params: Mapping[str, JsonValue], *keys: LaneKey) -> Candidate:
    action = entry.action
    leaf = _blank(identity, action.action, entry.version, action.pool)
    leaf.params = canonical_json(dict(params))
    try:
        entry.schema.check(params)
        named = (LaneKey("leaf", name, known.name, known) for name, known in render_keys(action, params))
        leaf.keys = (*entry.keys_in(action.pool), *keys, *named)
    except Refused as refused:
        leaf.error = refusal(refused.code, str(refused))
        return leaf
    leaf.priority = action.priority
    leaf.hash = hashlib.sha256(leaf.params.encode()).digest()
    leaf.queue_timeout, leaf.total_timeout = action.timeout.queue, action.timeout.total
    return leaf


def _blank(identity: UUID, action: str, version: int | None, pool: str) -> Candidate:
    return Candidate(
        id=identity,
        action=action,
        version=version,
        pool=pool,
        priority=0,
        keys=(),
        params="{}",
        hash=identity.bytes,
        tags="[]",
        not_before=None,
        deadline=None,
        queue_timeout=None,
        total_timeout=None,
        idempotency_key=None,
        error=None,
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


async def _columns(tx: Tx, partitions: Sequence[Candidate]) -> list[list[Any] | None]:
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
        column(c.error for c in partitions),
        column(c.queue_timeout for c in partitions),
        column(c.total_timeout for c in partitions),
    ]
