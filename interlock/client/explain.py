"""Why one execution is where it is, read on one snapshot. Writes nothing; the work is bounded, however many wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from interlock.client import reasons
from interlock.client.bounds import rate_text
from interlock.client.ids import UnknownId
from interlock.client.pools import state_of, unused
from interlock.client.queue_records import BlockingKey, Count, Explanation, Holder, Reason
from interlock.client.store import SQL
from interlock.contract.errors import InterlockError
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from interlock.adapters.postgres import Tx
    from interlock.client.queue_records import PoolState

    Row = Mapping[str, Any]

MOST_COUNTED: Final = 10_000
MOST_HOLDERS: Final = 20


class Unexplained(InterlockError):
    """An execution that nothing holds and nothing moves: an invariant is broken."""


async def explain(tx: Tx, identity: UUID) -> Explanation:
    """Return why an execution is where it is. Must be the first thing in its transaction.

    Raises UnknownId, and Unexplained for what must not be.
    """
    await tx.execute(SQL["snapshot"])
    found = await tx.fetchrow(SQL["explain"], identity)
    if found is None:
        raise UnknownId(f"no execution {identity}; `interlock list` shows the newest")
    row = dict(found)
    status = Status(row["status"])
    if status in TERMINAL:
        return _told(row, Reason.ENDED, reasons.ended(row), since=row["moved_at"])
    if row["paused_at"] is not None and status in (Status.REQUESTED, Status.SCHEDULED):
        return _told(row, Reason.PAUSED, "paused until somebody resumes it", since=row["paused_at"])
    if status is not Status.REQUESTED:
        return await _in_flight(tx, row)
    if row["seq"] is None:
        return _unplaced(row)
    if row["parked_on"] is None:
        raise _unexplained(row, "has a place in a lane that waits for no key")
    blocking = await tx.fetchrow(SQL["blocking_key"], row["parked_on"])
    if blocking is None:
        raise _unexplained(row, "waits for a key that is gone")
    return await (_in_pool if blocking["scope"] == "pool" else _on_key)(tx, row, dict(blocking))


def _told(row: Row, reason: Reason, sentence: str, **facts: Any) -> Explanation:  # noqa: ANN401 - fields of the record
    same = {name: row[name] for name in ("id", "action", "parent_id", "child_key")}
    return Explanation(**same, status=Status(row["status"]), reason=reason, sentence=sentence, **facts)


def _unexplained(row: Row, what: str) -> Unexplained:
    return Unexplained(f"execution {row['id']} is {row['status']} and {what}; run `interlock doctor`, and report it")


async def _in_flight(tx: Tx, row: Row) -> Explanation:
    if row["kind"] != "action":
        reason = Reason.RUNNING if row["status"] == Status.RUNNING else Reason.CANCELLING
        batch = await tx.fetchrow(SQL["batch"], row["id"])
        sentence = "its children move it" if batch is None else reasons.batch(dict(batch))
        return _told(row, reason, sentence, since=row["moved_at"])
    if not row["in_flight"]:
        raise _unexplained(row, "is not in flight")
    pool = await _pool(tx, row)
    if row["status"] == Status.SCHEDULED:
        reason, sentence = reasons.in_flight(row, pool)
        return _told(row, reason, sentence, since=row["moved_at"], pool=pool)
    if row["lease_expires_at"] is None or row["worker_ended_at"] is not None:
        raise _unexplained(row, "has no worker")
    reason, sentence = reasons.in_flight(row, pool)
    lease = row["lease_expires_at"]
    return _told(row, reason, sentence, since=row["moved_at"], until=lease, worker_id=row["worker_id"])


def _unplaced(row: Row) -> Explanation:
    found = reasons.unplaced(row)
    if found is None:
        raise _unexplained(row, "has neither a place in a lane nor a time to enter one")
    reason, sentence, until = found
    return _told(row, reason, sentence, since=row["moved_at"], until=until)


async def _on_key(tx: Tx, row: Row, key: Row) -> Explanation:
    reason = reasons.of_key(key, row)
    if reason is None:
        raise _unexplained(row, f"waits for {key['name']}, which has room and owes nothing")
    blocking = BlockingKey(
        **{name: key[name] for name in ("scope", "name", "paused", "active")},
        limit=key["lim"],
        rate=None if key["rate_every"] is None else rate_text(key["rate_every"]),
    )
    ahead = _count(
        await tx.fetchval(SQL["ahead_on_key"], row["parked_on"], row["priority"], row["seq"], MOST_COUNTED + 1)
    )
    until = key["wake_at"] if reason is Reason.RATE_LIMITED else None
    return _told(
        row,
        reason,
        reasons.key_sentence(reason, blocking, ahead, until),
        since=row["waits_since"],
        until=until,
        position=await _position(tx, row),
        ahead=ahead,
        key=blocking,
        also_full=tuple(each["name"] for each in await tx.fetch(SQL["also_full"], row["lane_id"], row["parked_on"])),
        first=key["claimant"] if reason is Reason.RESERVED else None,
        holders=await _holders(tx, row["parked_on"]),
        holders_total=key["active"],
    )


async def _in_pool(tx: Tx, row: Row, key: Row) -> Explanation:
    pool = await _pool(tx, row)
    reason = reasons.of_pool(pool, gated=key["gated"])
    if reason is None:
        raise _unexplained(row, f"waits for pool {key['name']}, which has room")
    position = await _position(tx, row)
    ahead = Count(count=MOST_COUNTED, more=True)
    if not position.more:
        turn = row["place"] + position.count - 1
        ahead = _count(
            await tx.fetchval(
                SQL["ahead_in_pool"], row["parked_on"], row["priority"], turn, row["seq"], MOST_COUNTED + 1
            )
        )
    sentence = reasons.pool_sentence(reason, pool, ahead)
    return _told(row, reason, sentence, since=row["waits_since"], position=position, ahead=ahead, pool=pool)


async def _position(tx: Tx, row: Row) -> Count:
    return _count(await tx.fetchval(SQL["position"], row["lane_id"], row["seq"], MOST_COUNTED + 1))


def _count(found: int) -> Count:
    return Count(count=min(found, MOST_COUNTED), more=found > MOST_COUNTED)


async def _holders(tx: Tx, key: int) -> tuple[Holder, ...]:
    rows = await tx.fetch(SQL["holders"], key, MOST_HOLDERS)
    return tuple(Holder(**{**row, "status": Status(row["status"])}) for row in rows)


async def _pool(tx: Tx, row: Row) -> PoolState:
    found = await tx.fetchrow(SQL["pools"], [row["pool"]])
    if found is None:
        return unused(row["pool"])
    first = await tx.fetchrow(SQL["first_waiters"], [found["id"]])
    return state_of(found, first["since"] if first else None)
