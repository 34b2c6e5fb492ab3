"""Accepts requests in the caller's transaction and tells for each what became of it.

Law 1. The row is the truth; a message is a hint. A request is accepted when its row is committed, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interlock.acceptance.candidates import Candidate, column
from interlock.acceptance.lanes import numbered
from interlock.acceptance.requests import judge, same_id, usable_id
from interlock.adapters.statements import Statements
from interlock.contract.errors import Conflict, Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

    from interlock.acceptance.catalog import Catalog
    from interlock.acceptance.entries import BatchEntry, Entry
    from interlock.adapters.postgres import Tx

SQL = Statements("interlock.acceptance")


@dataclass(slots=True, kw_only=True)  # not frozen, as Candidate
class Answer:
    """What became of one request: accepted now, known already (`existing`), or not acceptable (`error`)."""

    data: dict[str, Any]
    id: UUID | None
    accepted: bool = False
    refused: str | None = None
    existing: UUID | None = None
    error: Malformed | Conflict | None = None


@dataclass(slots=True, kw_only=True)
class Acceptance:
    """The answers of one flush in the order of the requests, the messages to publish, and keys that are owed."""

    answers: list[Answer] = field(default_factory=list)
    messages: list[Record] = field(default_factory=list)
    more: list[int] = field(default_factory=list)


async def accept(
    tx: Tx, requests: Sequence[dict[str, Any]], *, catalog: Catalog, actor: str, now: datetime
) -> Acceptance:
    """Turn request data into rows. Bad input never raises: it is answered, each request on its own.

    `actor` is a CloudEvents source such as `/executor/<id>`. Must be the first thing its transaction locks.
    """
    return await accept_judged(tx, requests, await judge_all(tx, requests, catalog, now), actor)


async def accept_judged(
    tx: Tx, requests: Sequence[dict[str, Any]], judged: Sequence[Candidate | Malformed], actor: str
) -> Acceptance:
    """`accept` for requests that `judge_all` has looked at; changes nothing of what it is given."""
    candidates = [candidate for candidate in judged if isinstance(candidate, Candidate)]
    first, repeats = same_id(candidates)
    result = Acceptance()
    fresh: set[UUID] = set()
    refusals: dict[UUID, str] = {}
    if first:
        row = await insert(tx, first, actor)
        fresh = set(row["accepted"] or ())
        refusals = dict(zip(row["refused"] or (), row["refusal"] or (), strict=True))
        result.messages, result.more = row["messages"] or [], row["more"] or []
    existing = await _existing(tx, [*(c for c in first if c.id not in fresh), *repeats])
    for data, candidate in zip(requests, judged, strict=True):
        if isinstance(candidate, Malformed):
            result.answers.append(Answer(data=data, id=None, error=candidate))
        elif candidate.id in fresh:
            fresh.remove(candidate.id)
            refused = refusals.get(candidate.id, candidate.error)
            result.answers.append(Answer(data=data, id=candidate.id, accepted=True, refused=refused))
        else:
            result.answers.append(_compare(data, candidate, existing))
    return result


async def bury(tx: Tx, reasons: Mapping[UUID, str], actor: str) -> None:
    """Leave a tombstone with the reason of its cancel for each id that has no row yet."""
    await tx.execute(SQL["bury"], list(reasons), list(reasons.values()), actor)


async def force(tx: Tx, ids: Sequence[UUID], actor: str) -> frozenset[UUID]:
    """Take the grace from those of `ids` that are being cancelled; returns whose it took. After their admission."""
    return frozenset(row["id"] for row in await tx.fetch(SQL["force"], ids, actor))


async def judge_all(
    tx: Tx, requests: Sequence[dict[str, Any]], catalog: Catalog, now: datetime
) -> list[Candidate | Malformed]:
    """Hold each request against the current definitions. Reads them, and locks nothing."""
    # Names are ASCII; what is not has no row to look for, and some of it (NUL, half a character) the database refuses.
    wanted = {name for data in requests if isinstance(name := data.get("action"), str) and _printable_ascii(name)}
    known: dict[str, Entry | BatchEntry] = {**await catalog.current(tx, wanted)}
    names: list[str] = []
    if missing := wanted - known.keys():
        known |= await catalog.batches(tx, missing)
        names = await catalog.names(tx) if missing - known.keys() else []
    judged: list[Candidate | Malformed] = []
    for data in requests:
        try:
            judged.append(judge(data, usable_id(data, now), known, names))
        except Malformed as error:
            judged.append(error)
    return judged


def _printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()


async def insert(tx: Tx, candidates: Sequence[Candidate], actor: str) -> Record:
    """Turn what was judged into rows, batches with their planning; returns what `accept` in the database says."""
    candidates = [*candidates, *(c.plan for c in candidates if c.plan is not None)]
    numbers, keys_of_lanes = numbered(candidates)
    batches = column(c.batch for c in candidates)
    return await tx.fetchrow(  # type: ignore[return-value]  # the function always returns one row
        SQL["accept"],
        [c.id for c in candidates],
        [c.action for c in candidates],
        [c.version for c in candidates],
        [c.pool for c in candidates],
        [c.priority for c in candidates],
        numbers,
        [c.params for c in candidates],
        [c.hash for c in candidates],
        [c.tags for c in candidates],
        column(c.not_before for c in candidates),
        column(c.deadline for c in candidates),
        column(c.queue_timeout for c in candidates),
        column(c.total_timeout for c in candidates),
        column(c.error for c in candidates),
        column(c.idempotency_key for c in candidates),
        batches,
        column(c.parent for c in candidates),
        column(c.child_key for c in candidates),
        None if batches is None else [c.epoch for c in candidates],
        actor,
        *keys_of_lanes,
    )


async def _existing(tx: Tx, candidates: Sequence[Candidate]) -> list[Record]:
    if not candidates:
        return []
    keys = [c.idempotency_key for c in candidates if c.idempotency_key]
    return await tx.fetch(SQL["existing"], [c.id for c in candidates], keys)


def _compare(data: dict[str, Any], candidate: Candidate, existing: Sequence[Record]) -> Answer:
    """A known id with the same content is the same request; anything else is a conflict that names what is there."""
    by_id = next((row for row in existing if row["key"] is None and row["id"] == candidate.id), None)
    if by_id is not None:
        if by_id["request_hash"] == candidate.hash:
            return Answer(data=data, id=candidate.id, existing=candidate.id)
        error = Conflict(f"id {candidate.id} was accepted with other content: use a fresh id for a new request")
        return Answer(data=data, id=candidate.id, existing=candidate.id, error=error)
    holder = next((row for row in existing if row["key"] == candidate.idempotency_key and row["key"]), None)
    owner = holder["id"] if holder else None
    same = holder is not None and holder["request_hash"] == candidate.hash
    how = "the same" if same else "other"
    error = Conflict(
        f"idempotency key {candidate.idempotency_key!r} belongs to execution {owner}, with {how} content", "key_in_use"
    )
    return Answer(data=data, id=candidate.id, existing=owner, error=None if same else error)
