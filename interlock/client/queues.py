"""Keys of executions: how they stand, and what a person changes of them. Takes the transaction, never opens one.

A change does not admit: whoever makes it admits on the key after the commit, in transactions of their own.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from interlock.client import store
from interlock.client.bounds import InvalidBounds, columns_of, declared, rate_text
from interlock.client.queue_records import Queue
from interlock.client.store import SQL
from interlock.contract.canonical import storable_text
from interlock.contract.errors import InterlockError
from interlock.contract.keys import LONGEST_NAME, RESERVED, key_name
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from asyncpg import Record
    from pydantic import JsonValue

    from interlock.adapters.postgres import Tx
    from interlock.client.bounds import Change
    from interlock.contract.definitions import Action

ACTION: Final = "action:"
REQUEST: Final = "key:"


class UnknownQueue(InterlockError):
    """No key has such a name, and none may be made under it."""


async def queues(tx: Tx, names: Collection[str] = (), *, idle: bool = False) -> list[Queue]:
    """Return the keys called `names`, or all that bound something or that somebody has; with `idle` the others, too.

    Must be the first thing in its transaction. Raises UnknownQueue.
    """
    await tx.execute(SQL["snapshot"])
    rows = await tx.fetch(SQL["queues"], list(names) or None, idle or bool(names))
    for name in dict.fromkeys(names):
        if all(row["name"] != name for row in rows):
            raise await _unknown(tx, name)
    ids = [row["id"] for row in rows] if names else None
    first = {row["key_id"]: row["since"] for row in await tx.fetch(SQL["first_waiters"], ids)}
    totals: defaultdict[int, Counter[str]] = defaultdict(Counter)
    waits: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for row in await tx.fetch(SQL["queue_totals"], ids):
        totals[row["key_id"]][row["event"]] += row["n"]
        if row["bucket"] is not None:
            waits[row["key_id"]][row["bucket"]] += row["n"]
    return [_queue(row, first.get(row["id"]), totals[row["id"]], waits[row["id"]]) for row in rows]


def _queue(row: Record, oldest: datetime | None, totals: Mapping[str, int], waits: Mapping[int, int]) -> Queue:
    limited = row["rate_every"] is not None
    same = ("scope", "name", "cap", "cap_policy", "paused", "template", "active", "waiting", "wake_at")
    return Queue(
        **{name: row[name] for name in same},
        limit=row["lim"],
        rate=rate_text(row["rate_every"]) if limited else None,
        burst=row["rate_burst"] if limited else None,
        oldest_waiting=oldest,
        admitted=totals.get("admitted", 0),
        finished=totals.get("finished", 0),
        cancelled=totals.get("cancelled", 0),
        wait_p50=percentile(waits, 50),
        wait_p95=percentile(waits, 95),
        wait_p99=percentile(waits, 99),
    )


def percentile(waits: Mapping[int, int], percent: int) -> float | None:
    """Return the seconds that `percent` of the waits did not reach, from counts by bucket; None without any.

    Bucket 0 is below a millisecond, bucket b from 2^(b-1) to 2^b milliseconds. The answer is the upper end of the
    bucket that holds the percentile: at most twice the true value, unless that is below a millisecond.
    """
    missing = percent * sum(waits.values())
    for bucket in sorted(waits):
        missing -= 100 * waits[bucket]
        if missing <= 0:
            return float(2**bucket) / 1000
    return None


async def limit(tx: Tx, name: str, change: Change) -> int:
    """Change what bounds the key called `name`, and return its id. Raises UnknownQueue and InvalidBounds.

    A key that nobody has had yet is made, if executions can have it.
    """
    row = await _found_or_made(tx, name)
    return await _set(tx, name, columns_of(change, row))


async def pause(tx: Tx, name: str) -> int:
    """Let nothing more be admitted on a key, and return its id. Makes it like `limit`. Raises UnknownQueue."""
    await _found_or_made(tx, name)
    return await _set(tx, name, {"paused": True})


async def resume(tx: Tx, name: str) -> int:
    """Take back a pause, and return the key's id. Raises UnknownQueue."""
    if await tx.fetchrow(SQL["queue_bounds"], name) is None:
        raise await _unknown(tx, name)
    return await _set(tx, name, {"paused": False})


async def held(tx: Tx, name: str) -> tuple[bool, int]:
    """Return whether a key is paused, and how many hold a slot of it. Raises UnknownQueue."""
    row = await tx.fetchrow(SQL["queue_bounds"], name)
    if row is None:
        raise await _unknown(tx, name)
    return row["paused"], row["active"]


async def _set(tx: Tx, name: str, columns: Mapping[str, JsonValue]) -> int:
    changed: int = await tx.fetchval(SQL["set_queue"], "leaf", name, json.dumps({**columns, "kept": True}))
    return changed


async def _found_or_made(tx: Tx, name: str) -> dict[str, Any]:
    found = await tx.fetch(SQL["queue_bounds"], name)
    if not found:
        await _make(tx, name)
        found = await tx.fetch(SQL["queue_bounds"], name)
    return dict(found[0])


async def _make(tx: Tx, name: str) -> None:
    """Make a key as its definition would. Raises UnknownQueue for a name that no execution can have."""
    actions = [each.action for each in await store.actions_list(tx) if each.withdrawn_at is None]
    found = declared(name, actions)
    if found is None and (name.startswith(ACTION) or await _is_misspelled(tx, name, actions)):
        raise await _unknown(tx, name, (action.own_key for action in actions))
    if not name.startswith(ACTION):
        try:
            _check_name(name)
        except ValueError as error:
            raise InvalidBounds(str(error)) from error
    template, bounds = found or (None, None)
    columns: Mapping[str, Any] = bounds.columns() if bounds else {"cap_policy": "reject", "rate_burst": 1}
    names = ("lim", "cap", "cap_policy", "rate_every", "rate_burst")
    await tx.execute(SQL["make_key"], name, template, *(columns.get(column) for column in names))


async def _is_misspelled(tx: Tx, name: str, actions: Iterable[Action]) -> bool:
    """Whether somebody who wrote `name` must have meant the key that has it behind a prefix."""
    known = {*await _near(tx, name), *(action.own_key for action in actions)}
    return any(f"{prefix}{name}" in known for prefix in RESERVED)


def _check_name(name: str) -> None:
    text = name.removeprefix(REQUEST)
    if text == name:
        key_name(name)
    elif not 0 < len(storable_text(text)) <= LONGEST_NAME:
        raise ValueError(f"a concurrency key has 1 to {LONGEST_NAME} characters, this one {len(text)}")


async def _near(tx: Tx, name: str) -> list[str]:
    return [row["name"] for row in await tx.fetch(SQL["near_names"], name)]


async def _unknown(tx: Tx, name: str, also: Iterable[str] = ()) -> UnknownQueue:
    known = {*await _near(tx, name), *also}
    prefixed = next((f"{prefix}{name}" for prefix in RESERVED if f"{prefix}{name}" in known), None)
    hint = f'; did you mean "{prefixed}"?' if prefixed else did_you_mean(name, known)
    return UnknownQueue(f'no queue is called "{name[:100]}"{hint or "; `interlock queues show --all` lists them"}')
