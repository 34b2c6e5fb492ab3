"""Which reason keeps an execution where it is, and its sentence. Pure: takes rows as they were read at one moment."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from interlock.client.ids import short
from interlock.client.queue_records import Count, Reason
from interlock.contract.batches import COUNTED
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interlock.client.queue_records import BlockingKey, PoolState


def of_key(key: Mapping[str, Any], lane: Mapping[str, Any]) -> Reason | None:
    """Return why a key keeps the head of a lane waiting; None is what must not be.

    `key` is a row of `blocking_key`, `lane` one of `explain`. OWED: it has room, and somebody will call.
    """
    if key["paused"]:
        return Reason.KEY_PAUSED
    if key["lim"] == 0:
        return Reason.CLOSED
    if key["lim"] is not None and key["active"] >= key["lim"]:
        return Reason.SLOTS
    if key["wake_at"] is not None:
        return Reason.RATE_LIMITED if key["wake_at"] > lane["now"] else Reason.OWED
    if key["claim_lane"] is not None:
        return Reason.RESERVED if _is_kept(key, lane) else Reason.OWED
    return Reason.OWED if key["owed"] else None


def _is_kept(key: Mapping[str, Any], lane: Mapping[str, Any]) -> bool:
    """Whether a claim keeps what room there is for somebody who goes before the head of this lane."""
    behind = (-lane["priority"], lane["head_seq"]) > (-key["claim_prio"], key["claim_seq"])
    return key["claim_holds"] and behind and key["room"] is not None and key["room"] <= 1


def of_pool(pool: PoolState, *, gated: bool) -> Reason | None:
    """Return why a pool keeps the head of a lane waiting; None is what must not be."""
    if pool.paused:
        return Reason.POOL_PAUSED
    if pool.workers == 0:
        return Reason.NO_WORKER
    if pool.room == 0:
        return Reason.POOL_BUSY
    return Reason.OWED if gated else None


def key_sentence(reason: Reason, key: BlockingKey, ahead: Count, until: datetime | None) -> str:
    """Return why an execution waits for a key, and how many go before it."""
    name = key.name
    at = "" if until is None else _moment(until)
    sentences = {
        Reason.SLOTS: f"waits for a slot of {name}, {key.active} of {key.limit} taken",
        Reason.CLOSED: f"{name} is closed: its limit is 0",
        Reason.KEY_PAUSED: f"{name} is paused: `interlock queues resume {shlex.quote(name)}` lets it go on",
        Reason.RATE_LIMITED: f"the rate of {name}, {key.rate}, lets the next one go at {at}",
        Reason.RESERVED: f"the room that {name} has is kept for one that needs several keys and goes first",
        Reason.OWED: f"{name} has room: an executor admits at once",
    }
    return sentences[reason] + _behind(ahead)


def pool_sentence(reason: Reason, pool: PoolState, ahead: Count) -> str:
    """Return why an execution waits for its pool, and how many go before it."""
    name, quoted = pool.name, shlex.quote(pool.name)
    drained = f"only workers that drain ({pool.draining})" if pool.draining else "no live worker"
    sentences = {
        Reason.POOL_PAUSED: f"pool {name} is paused: `interlock pools resume {quoted}` lets it go on",
        Reason.NO_WORKER: f"pool {name} has {drained}: start one with INTERLOCK_POOL={name}",
        Reason.POOL_BUSY: f"pool {name} is busy: {pool.in_flight} are in flight, {pool.capacity} run at once",
        Reason.OWED: f"pool {name} has room: an executor admits at once",
    }
    return sentences[reason] + _behind(ahead)


def _behind(ahead: Count) -> str:
    if not ahead.count:
        return ""
    return f", behind {ahead} {'other' if ahead.count == 1 and not ahead.more else 'others'}"


def unplaced(row: Mapping[str, Any]) -> tuple[Reason, str, datetime | None] | None:
    """Return why what is requested has no place in a lane, and until when; None is what must not be."""
    due: datetime | None = row["enters_at"]
    if due is None:
        return None
    if row["not_before"] is None or row["not_before"] <= row["now"]:
        return Reason.ENTERING, "its time has come: an executor enters it into its lane at once", None
    due = max(due, row["not_before"])
    if row["failures"]:
        times = "once" if row["failures"] == 1 else f"{row['failures']} times"
        return Reason.RETRY, f"failed {times}, and is tried again at {_moment(due)}", due
    return Reason.NOT_BEFORE, f"waits for its time, {_moment(due)}", due


def in_flight(row: Mapping[str, Any], pool: PoolState) -> tuple[Reason, str]:
    """Return the reason and the sentence of what is scheduled, running or being cancelled."""
    if row["status"] == "scheduled":
        if pool.workers == 0:
            return Reason.NO_WORKER, f"dispatched to pool {pool.name}, which has no live worker; it will wait again"
        return Reason.SCHEDULED, f"dispatched: waits for a worker of pool {pool.name} to take it"
    over = row["lease_expires_at"] <= row["now"]
    lease = (
        f"the lease ended at {_moment(row['lease_expires_at'])}, executors move it on" if over else "the lease is live"
    )
    worker = f"worker {row['worker_id']}"
    if row["status"] == "running":
        return Reason.RUNNING, f"attempt {row['attempt']} runs on {worker}; {lease}"
    return Reason.CANCELLING, f"was told to stop ({row['cancel_reason']}), and {worker} has not ended it yet; {lease}"


def batch(row: Mapping[str, Any]) -> str:
    """Return the sentence of a batch that has not ended: its partitions move it."""
    done, made = sum(row[name] for name in COUNTED), row["made"]
    in_flight = row["scheduled"] + row["running"]
    more = f"`interlock batch show {short(row['id'])}` tells more"
    if row["status"] == Status.CANCELLING:
        return f"is being cancelled: {made - done:,} of {made:,} partitions have not ended yet; {more}"
    if not row["planned"]:
        return f"is being planned, {made:,} partitions so far; {more}"
    if not row["sealed"] and not made:
        number = short(row["id"])
        return f"has no partitions yet: `interlock batch add {number}`, or `interlock batch seal {number}` if none come"
    if not row["sealed"] and done == made:
        return f"all of {made:,} partitions have ended, and more may come: `interlock batch seal {short(row['id'])}`"
    waiting = max(0, made - done - in_flight)
    return f"{done:,} of {made:,} partitions have ended, {in_flight:,} are in flight, {waiting:,} wait; {more}"


def ended(row: Mapping[str, Any]) -> str:
    """Return the sentence of what has ended."""
    why = row["error"] if row["error"] is not None else row["cancel_reason"]
    return f"ended as {row['status']}" + (f": {why}" if why else "")


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
