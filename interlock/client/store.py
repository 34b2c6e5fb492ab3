"""What the client reads and asks for: one named function per statement. Takes the transaction, never opens one."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from interlock.adapters.statements import Statements
from interlock.client.records import Attempt, Execution, LogLine, Move, Registered, Summary
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx
    from interlock.client.ids import Fragment

SQL = Statements("interlock.client")


class Standing(NamedTuple):
    """How many stand at `status`; `ended` holds their ids if it is a terminal one."""

    status: Status
    executions: int
    ended: Sequence[UUID]


class Admission(NamedTuple):
    """What one admission did: whom it moved as decided, keys that still have room and waiters, how many it admitted."""

    decided: frozenset[UUID]
    more: Sequence[int]
    admitted: int


async def get(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Execution]:
    """Those of `ids` that exist."""
    rows = await tx.fetch(SQL["get"], list(ids))
    return {row["id"]: Execution(**_summary(row), **_rest(row)) for row in rows}


async def find(tx: Tx, fragment: Fragment, most: int) -> list[UUID]:
    """Ids that begin or end so, newest first, at most `most`."""
    rows = await tx.fetch(SQL["find"], fragment.first, fragment.last, fragment.ending, most)
    return [row["id"] for row in rows]


async def listed(
    tx: Tx,
    *,
    before: UUID | None,
    statuses: Collection[Status],
    action: str | None,
    tag: str | None,
    roots: bool,
    limit: int,
) -> list[Summary]:
    """Executions behind `before`, newest first. No statuses: any. `roots`: none that have a parent."""
    rows = await tx.fetch(SQL["list"], before, [str(s) for s in statuses] or None, action, tag, limit, roots)
    return [Summary(**_summary(row)) for row in rows]


async def transitions(tx: Tx, identity: UUID, after: int) -> list[Move]:
    """Moves behind the one numbered `after`."""
    rows = await tx.fetch(SQL["transitions"], identity, after)
    return [
        Move(
            **{
                **row,
                "source": Status(row["source"]) if row["source"] else None,
                "target": Status(row["target"]),
            }
        )
        for row in rows
    ]


async def attempts(tx: Tx, identity: UUID) -> list[Attempt]:
    """Attempts that ended."""
    return [Attempt(**row) for row in await tx.fetch(SQL["attempts"], identity)]


async def logs(tx: Tx, identity: UUID, after: tuple[int, int], limit: int) -> list[LogLine]:
    """At most `limit` lines behind the place `after`."""
    return [LogLine(**row) for row in await tx.fetch(SQL["logs"], identity, *after, limit)]


async def progress(tx: Tx, ids: Collection[UUID]) -> list[Standing]:
    """How many of `ids` stand where."""
    rows = await tx.fetch(SQL["progress"], list(ids))
    return [Standing(Status(row["status"]), row["count"], row["ended"] or ()) for row in rows]


async def actions_list(tx: Tx) -> list[Registered]:
    """The newest version of every action, by name."""
    rows = await tx.fetch(SQL["actions_list"])
    return [Registered(**{**row, "definition": orjson.loads(row["definition"])}) for row in rows]


async def admit(
    tx: Tx,
    actor: str,
    *,
    decided: Sequence[UUID] = (),
    attempts: Sequence[int] = (),
    sources: Sequence[Status] = (),
    target: Status = Status.CANCELLED,
    reason: str = "",
    keys: Sequence[int] = (),
) -> Admission:
    """Move `decided` to `target` and admit, under the locks of all keys concerned, which must be the first locks taken.

    `attempts` are the fences of `decided`; without them, whatever the attempt. So are `sources`: where any are named,
    only what stands at one of them is moved. What somebody else moved stays.
    """
    fences: list[int | None] = [*attempts] or [None] * len(decided)
    row = await tx.fetchrow(SQL["admit"], list(decided), fences, target, reason, list(keys), actor, list(sources))
    assert row is not None  # noqa: S101 - the function returns exactly one row
    await give_up_claim(tx, row["messages"] or ())
    return Admission(frozenset(row["decided"] or ()), tuple(row["more"] or ()), row["admitted"])


async def standing(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, Status]:
    """Where those of `ids` that exist stand."""
    return {row["id"]: Status(row["status"]) for row in await tx.fetch(SQL["standing"], list(ids))}


async def give_up_claim(tx: Tx, messages: Sequence[Record]) -> None:
    """Leave these outbox rows to the executors, who hear of them when this transaction commits."""
    if messages:
        await tx.execute(SQL["give_up_claim"], [message["id"] for message in messages])


def _summary(row: Record) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _SUMMARY},
        "status": Status(row["status"]),
        "tags": tuple(orjson.loads(row["tags"])),
        "error": _json(row["error"]),
    }


def _rest(row: Record) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _REST},
        "params": orjson.loads(row["params"]),
        "result": _json(row["result"]),
    }


def _json(text: str | None) -> Any:  # noqa: ANN401 - whatever the JSON says
    return None if text is None else orjson.loads(text)


_SUMMARY = [field.name for field in fields(Summary)]
_REST = [field.name for field in fields(Execution) if field.name not in _SUMMARY]
