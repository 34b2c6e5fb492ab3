"""What the worker reads and writes: one named function per statement; `ls worker/sql` is all it may do to the truth."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from interlock.adapters.statements import Statements
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

    from interlock.acceptance.partitions import Step
    from interlock.adapters.postgres import Tx

SQL = Statements("worker")
_STATUS = {str(status): status for status in Status}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim brought: rows of (id, attempt, failures, action, action_version, params, …), and messages."""

    claimed: list[Record]
    messages: list[Record]


@dataclass(slots=True, kw_only=True)  # not frozen, which would double what making 500 of them costs
class Finish:
    """The end of one attempt, as it is written.

    `target` is the status to move to; `outcome` is what the attempt is remembered by: a terminal status or
    `handed_back`. `delay` is the seconds until a retry; `result` and `error` are JSON texts.
    """

    id: UUID
    action: str
    attempt: int
    target: str
    outcome: str
    result: str | None
    error: str | None
    error_class: str | None
    error_text: str | None
    fingerprint: str | None
    exit_code: int | None
    delay: float
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of one attempt."""

    id: UUID
    attempt: int
    number: int
    stream: str
    line: str
    at: datetime


async def register(
    tx: Tx, worker: UUID, *, pool: str, capacity: int, host: str, pid: int, containment: str, lease: float
) -> None:
    """Enter a new incarnation with a lease of `lease` seconds."""
    await tx.execute(SQL["register"], worker, pool, capacity, host, pid, containment, lease)


async def claim(tx: Tx, worker: UUID, offers: Sequence[tuple[UUID, int]], actor: str) -> Claim:
    """Claim what a message offered: (id, attempt) pairs. What somebody else has is not in the answer."""
    offers = sorted(offers)
    row = await tx.fetchrow(
        SQL["claim"], worker, [identity for identity, _ in offers], [attempt for _, attempt in offers], actor
    )
    return _claim(row)


async def claim_from_table(tx: Tx, worker: UUID, *, pool: str, most: int, older: float, actor: str) -> Claim:
    """Claim up to `most` of the pool that were dispatched `older` seconds ago and are still unclaimed."""
    return _claim(await tx.fetchrow(SQL["claim_from_table"], worker, pool, most, older, actor))


def _claim(row: Record | None) -> Claim:
    assert row is not None  # noqa: S101 - an aggregate returns exactly one row
    return Claim(claimed=list(row["claimed"] or ()), messages=list(row["messages"] or ()))


async def finish(tx: Tx, worker: UUID, ends: Sequence[Finish], actor: str) -> tuple[dict[UUID, Status], list[Record]]:
    """Write the ends of attempts; returns where those that moved stand (others had lost the fence) and the messages."""
    ends = sorted(ends, key=attrgetter("id"))
    columns = _columns(
        ends,
        "id attempt target outcome result error error_class error_text fingerprint exit_code delay started_at",
    )
    row = await tx.fetchrow(SQL["finish"], worker, *columns, actor)
    assert row is not None  # noqa: S101 - an aggregate returns exactly one row
    moved = dict(zip(row["moved"], map(_STATUS.__getitem__, row["stands"]), strict=True))
    if late := [end for end in ends if end.id not in moved]:
        await keep_late(tx, worker, late)
    return moved, list(row["messages"] or ())


async def keep_late(tx: Tx, worker: UUID, ends: Sequence[Finish]) -> None:
    """Keep the ends of attempts that had lost their fence; they move nothing."""
    names = "id attempt error_class error_text fingerprint exit_code started_at"
    await tx.execute(SQL["keep_late"], worker, *_columns(ends, names))


def _columns(ends: Sequence[Finish], names: str) -> list[list[Any]]:
    return [[getattr(end, name) for end in ends] for name in names.split()]


async def renew(tx: Tx, worker: UUID, lease: float, held: Sequence[tuple[UUID, int]]) -> Record:
    """Renew for `lease` seconds; `draining` is null when the lease had ended already."""
    row: Record | None = await tx.fetchrow(
        SQL["renew"], worker, lease, [identity for identity, _ in held], [attempt for _, attempt in held]
    )
    assert row is not None  # noqa: S101 - it selects no table
    return row


async def retire(tx: Tx, worker: UUID) -> None:
    """Close this incarnation."""
    await tx.execute(SQL["retire"], worker)


async def start_draining(tx: Tx, worker: UUID) -> None:
    """Say that this incarnation takes nothing more."""
    await tx.execute(SQL["start_draining"], worker)


async def write_log(tx: Tx, lines: Sequence[LogLine]) -> None:
    """Append log lines; a line that is there already is left alone."""
    await tx.execute(
        SQL["write_log"],
        [line.id for line in lines],
        [line.attempt for line in lines],
        [line.number for line in lines],
        [line.stream for line in lines],
        [line.line for line in lines],
        [line.at for line in lines],
    )


async def plan_standing(tx: Tx, plan: UUID) -> Record | None:
    """Where the batch stands that this execution plans."""
    return await tx.fetchrow(SQL["plan_standing"], plan)


async def repeated_keys(tx: Tx, ids: Sequence[UUID]) -> str | None:
    """The key of one of these partitions that exists already."""
    key: str | None = await tx.fetchval(SQL["repeated_keys"], ids)
    return key


async def superseded(tx: Tx, batch: UUID, after: UUID, most: int) -> list[Record]:
    """Partitions that the restart of a batch has superseded, behind the id `after`: (id, key, params)."""
    return await tx.fetch(SQL["superseded"], batch, after, most)


async def preview_chunk(tx: Tx, step: Step, keys: Sequence[str], params: Sequence[str]) -> bool:
    """Commit one step of a planning that is only looked at; False when the fence is lost or the step is taken."""
    return bool(await tx.fetchval(SQL["preview_chunk"], *step, keys, params))


async def previewed(tx: Tx, plan: UUID, after: int, most: int) -> list[Record]:
    """Items of a plan that was made anew, behind the position `after`: (position, key, params)."""
    return await tx.fetch(SQL["previewed"], plan, after, most)


async def repeated_in_preview(tx: Tx, plan: UUID, keys: Sequence[str]) -> str | None:
    """One of these keys that the plan has already."""
    key: str | None = await tx.fetchval(SQL["repeated_in_preview"], plan, keys)
    return key
