"""What the executor reads and writes: one named function per statement. Takes the transaction, never opens one."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from interlock.adapters.statements import Statements
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx

SQL = Statements("executor")
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A move that the executor decides. `attempt` None: whatever the attempt."""

    id: UUID
    target: Status
    attempt: int | None = None


@dataclass(slots=True, kw_only=True)
class Admission:
    """What one admission did: messages to publish, keys that still have room and waiters, and its figures."""

    messages: list[Record] = field(default_factory=list)
    more: list[int] = field(default_factory=list)
    admitted: int = 0
    released: int = 0
    decided: list[UUID] = field(default_factory=list)


async def admit(
    tx: Tx,
    actor: str,
    *,
    ended: Sequence[UUID] = (),
    entering: Sequence[UUID] = (),
    decisions: Sequence[Decision] = (),
    reason: str = "",
    keys: Sequence[int] = (),
) -> Admission:
    """Release, decide, enter and admit, under the locks of all keys concerned, in the caller's transaction."""
    return _admission(
        await tx.fetchrow(
            SQL["admit"],
            list(ended),
            list(entering),
            [decision.id for decision in decisions],
            [decision.attempt for decision in decisions],
            [decision.target for decision in decisions],
            reason,
            list(keys),
            CHUNK,
            actor,
        )
    )


def _admission(row: Record | None) -> Admission:
    assert row is not None  # noqa: S101 - the function returns exactly one row
    return Admission(
        messages=list(row["messages"] or ()),
        more=list(row["more"] or ()),
        admitted=row["admitted"],
        released=row["released"],
        decided=list(row["decided"] or ()),
    )


Told: TypeAlias = tuple["UUID", Status, int, int]
"""What a message says of an execution: its id, status, attempt and epoch."""


async def elsewhere(tx: Tx, told: Sequence[Told]) -> dict[int, Record]:
    """Where those stand that do not stand as told: (status, attempt, epoch) by their number in `told`, from 1.

    The status is None where there is no such execution.
    """
    rows = await tx.fetch(SQL["elsewhere"], *map(list, zip(*told, strict=True)))
    return {row["n"]: row for row in rows}


class Standing(NamedTuple):
    """Where an execution stood as its completion came, whether it held slots, and whether a key of it is limited."""

    status: Status
    attempt: int
    epoch: int
    holds: bool
    limited: bool


async def complete(tx: Tx, actor: str, told: Sequence[Told]) -> tuple[dict[int, Standing | None], Admission]:
    """Release what of these executions has ended, admit the next.

    Returns where those stood before that had not ended as told, or have a limited key, by their number in `told`, from
    1; None where there is no such execution.
    """
    row = await tx.fetchrow(SQL["complete"], *map(list, zip(*told, strict=True)), CHUNK, actor)
    admission = _admission(row)
    assert row is not None  # noqa: S101 - as above
    return {
        number: None if status is None else Standing(Status(status), *rest)
        for number, status, *rest in row["elsewhere"]
    }, admission


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMove:
    """A worker's move that its message tells and the row does not."""

    id: UUID
    attempt: int
    source: Status
    target: Status
    actor: str


async def catch_up(tx: Tx, moves: Sequence[LostMove]) -> tuple[list[Record], list[UUID]]:
    """Make these moves again, guarded; returns the messages and the ids that moved."""
    moves = sorted(moves, key=attrgetter("id"))
    rows = await tx.fetch(
        SQL["catch_up"],
        [move.id for move in moves],
        [move.attempt for move in moves],
        [move.source for move in moves],
        [move.target for move in moves],
        [move.actor for move in moves],
    )
    return [m for row in rows for m in row["messages"] or ()], [i for row in rows for i in row["moved"] or ()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """One poison message: which queue it came from, the stable reason, the sentence, and the bytes."""

    queue: str
    reason: str
    detail: str
    content_type: str | None
    body: bytes


async def park(tx: Tx, messages: Sequence[Parked]) -> None:
    """Keep what cannot be handled, whole."""
    await tx.execute(
        SQL["park"],
        [m.queue for m in messages],
        [m.reason for m in messages],
        # PostgreSQL's text holds no NUL; the body keeps every byte.
        [m.detail.replace("\0", "\u2400") for m in messages],
        [m.content_type.replace("\0", "\u2400") if m.content_type else None for m in messages],
        [m.body for m in messages],
    )


async def unbury(tx: Tx, ids: Iterable[UUID]) -> None:
    """Remove tombstones that did their work, and all expired ones."""
    await tx.execute(SQL["unbury"], list(ids))


async def late_tombstones(tx: Tx) -> list[Record]:
    """Cancels whose request was accepted meanwhile: (execution_id, reason)."""
    return await tx.fetch(SQL["late_tombstones"])


async def due_timers(tx: Tx) -> list[Record]:
    """Timers that fell due: (execution_id, kind, attempt), oldest first, at most one chunk."""
    return await tx.fetch(SQL["due_timers"], CHUNK)


async def forget_timers(tx: Tx, timers: Sequence[Record]) -> None:
    """Delete those of `timers` that did their work."""
    await tx.execute(SQL["forget_timers"], [t["execution_id"] for t in timers], [t["kind"] for t in timers])


async def hungry_keys(tx: Tx) -> list[Record]:
    """Keys with waiters that may go on: (id, seconds until then), the latter 0 or less for now."""
    return await tx.fetch(SQL["hungry_keys"])


async def claimed_keys(tx: Tx) -> list[int]:
    """Keys that a head claims: what it keeps free for itself goes to others while it cannot go anyway."""
    return [row["id"] for row in await tx.fetch(SQL["claimed_keys"])]


async def forget_idle(tx: Tx, *, idle_seconds: float) -> Record:
    """Delete lanes and keys that nobody used for so long; returns how many (lanes, keys)."""
    row: Record | None = await tx.fetchrow(SQL["forget_idle"], idle_seconds)
    assert row is not None  # noqa: S101 - the function returns exactly one row
    return row


async def fold_minutes(tx: Tx, *, older_seconds: float) -> None:
    """Fold the minutes of keys that are older than this into their totals."""
    await tx.execute(SQL["fold_minutes"], older_seconds)


async def leaked_slots(tx: Tx) -> list[UUID]:
    """Executions that ended seconds ago and still hold slots."""
    return [row["execution_id"] for row in await tx.fetch(SQL["leaked_slots"])]


class Tick(NamedTuple):
    """What a reaper found as it looked.

    `observing`: nobody looked for a while, so nobody is lost yet. `braking`: so many leases ended at once that a second
    look must find it, too; `noticed` by this look first. `expired` of the `workers` that nobody has closed.
    """

    observing: bool
    braking: bool
    noticed: bool
    workers: int
    expired: int


async def tick(tx: Tx, *, gap_seconds: float, lease_seconds: float, few_workers: int) -> Tick:
    """Note that a reaper looked. Up to `few_workers` may all be lost at once."""
    row = await tx.fetchrow(SQL["tick"], gap_seconds, lease_seconds, few_workers)
    assert row is not None  # noqa: S101 - the table has exactly one row
    return Tick(**row)


async def lost_executions(tx: Tx) -> list[Record]:
    """What expired leases hold, at most one chunk."""
    return await tx.fetch(SQL["lost_executions"], CHUNK)


async def stranded_executions(tx: Tx) -> list[Record]:
    """What was dispatched and not started within its start deadline, for want of a worker or of its attention."""
    return await tx.fetch(SQL["stranded_executions"])


async def end_workers(tx: Tx) -> list[Record]:
    """Close the rows of lost incarnations that hold nothing any more; returns them."""
    return await tx.fetch(SQL["end_workers"])


async def make_partitions(tx: Tx) -> int:
    """Make the history partitions of the coming weeks; returns how many were missing."""
    return int(await tx.fetchval(SQL["make_partitions"]))
