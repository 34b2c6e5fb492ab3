"""What becomes of a step of a plan: partitions of its batch, or rows to be looked at. Decides nothing about the plan.

Both are written by one database function each, which checks the fence and moves the cursor in the same transaction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from interlock.acceptance.partitions import Parent, partition_candidate, plan_chunk
from interlock.contract.identity import child_id
from worker import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from interlock.acceptance.candidates import Candidate
    from interlock.acceptance.entries import Entry
    from interlock.acceptance.partitions import Step
    from interlock.adapters.postgres import Tx
    from worker.plans import Item

    Write = Callable[[Tx, Step], Awaitable[bool]]

SLICE: Final = 250
"""Items that are made ready before the loop may turn to something else: the renewal of the lease among it."""


class Steps(Protocol):
    """Where the steps of one plan go."""

    async def ready(self, items: Sequence[Item]) -> Write:
        """Make a step ready: what is returned writes it, and may be called again; False: its place is taken."""

    async def repeated(self, tx: Tx, items: Sequence[Item]) -> str | None:
        """The key of one of these items that is there already."""


class Partitions(NamedTuple):
    """Each item becomes a partition of a batch."""

    parent: Parent
    entry: Entry

    async def ready(self, items: Sequence[Item]) -> Write:
        """Make the partitions."""
        made: list[Candidate] = []
        for start in range(0, len(items), SLICE):
            some = items[start : start + SLICE]
            made += [partition_candidate(self.parent, self.entry, item.key, item.params) for item in some]
            await asyncio.sleep(0)
        return lambda tx, step: plan_chunk(tx, step, made, f"/plan/{step.plan}")

    async def repeated(self, tx: Tx, items: Sequence[Item]) -> str | None:
        """Look among the partitions of this epoch."""
        ids = [child_id(self.parent.id, self.parent.epoch, item.key) for item in items]
        return await store.repeated_keys(tx, ids)


class Looks(NamedTuple):
    """Each item becomes a row of a preview."""

    preview: UUID

    async def ready(self, items: Sequence[Item]) -> Write:
        """Write down the parameters."""
        keys = [item.key for item in items]
        params: list[str] = []
        for start in range(0, len(items), SLICE):
            params += [orjson.dumps(item.params).decode() for item in items[start : start + SLICE]]
            await asyncio.sleep(0)
        return lambda tx, step: store.preview_chunk(tx, step, keys, params)

    async def repeated(self, tx: Tx, items: Sequence[Item]) -> str | None:
        """Look among the rows of this preview."""
        return await store.repeated_in_preview(tx, self.preview, [item.key for item in items])
