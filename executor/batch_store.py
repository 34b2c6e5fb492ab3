"""What the executor reads and writes of batches: one function per statement. It never opens a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.store import SQL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx
    from interlock.contract.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEnd:
    """How a batch of this epoch ends; `result` and `error` are JSON texts."""

    id: UUID
    epoch: int
    target: Status
    result: str
    error: str | None
    reason: str | None


async def batches(tx: Tx, ids: Sequence[UUID]) -> list[Record]:
    """Those of these executions that are open batches, as they stand."""
    return await tx.fetch(SQL["batches"], ids)


async def open_batches(tx: Tx, after: UUID, most: int) -> list[UUID]:
    """Open batches behind the id `after` in which nothing happened for a while."""
    return [row["execution_id"] for row in await tx.fetch(SQL["open_batches"], after, most)]


async def open_children(tx: Tx, batch: UUID, most: int, *, drains: bool) -> list[UUID]:
    """At most so many children of a batch that a cancel is still to reach; `drains`: what runs may finish."""
    return sorted({row["id"] for row in await tx.fetch(SQL["open_children"], batch, most, drains)})


async def end_batches(tx: Tx, ends: Sequence[BatchEnd], actor: str) -> tuple[list[Record], list[UUID]]:
    """End batches whose every partition ended; returns the messages, and those that this call has ended."""
    row = await tx.fetchrow(
        SQL["end_batches"],
        [end.id for end in ends],
        [end.epoch for end in ends],
        [end.target for end in ends],
        [end.result for end in ends],
        [end.error for end in ends],
        [end.reason for end in ends],
        actor,
    )
    assert row is not None  # noqa: S101 - an aggregate returns exactly one row
    return list(row["messages"] or ()), list(row["ended"])


async def due_callbacks(tx: Tx, batches: Sequence[UUID] | None, most: int) -> list[Record]:
    """What happened to these batches, or to any, and has started no action yet."""
    return await tx.fetch(SQL["due_callbacks"], batches, most)


async def called_back(tx: Tx, callbacks: Sequence[Record]) -> None:
    """Note that these have their executions."""
    await tx.execute(
        SQL["called_back"],
        [c["id"] for c in callbacks],
        [c["epoch"] for c in callbacks],
        [c["event"] for c in callbacks],
    )
