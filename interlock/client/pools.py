"""Worker pools: how they stand, and pausing them. Takes the transaction, never opens one.

A pool's pause gives back what no worker has taken yet; that and admission are left to whoever pauses, after the commit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from interlock.client.queue_records import PoolState
from interlock.client.store import SQL
from interlock.contract.errors import InterlockError
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx


class UnknownPool(InterlockError):
    """No execution, action or worker has named such a pool."""


async def pools(tx: Tx, names: Collection[str] = ()) -> list[PoolState]:
    """Return the pools called `names`, or all. Must be the first thing in its transaction. Raises UnknownPool."""
    await tx.execute(SQL["snapshot"])
    rows = await tx.fetch(SQL["pools"], list(names) or None)
    for name in names:
        if all(row["name"] != name for row in rows):
            raise await _unknown(tx, name)
    ids = [row["id"] for row in rows if row["id"] is not None]
    first = {row["key_id"]: row["since"] for row in await tx.fetch(SQL["first_waiters"], ids)}
    return [state_of(row, first.get(row["id"])) for row in rows]


def state_of(row: Record, oldest: datetime | None) -> PoolState:
    """Return a row of `pools` as its record."""
    same = ("name", "paused", "workers", "draining", "capacity", "running", "scheduled", "room", "waiting")
    return PoolState(**{name: row[name] for name in same}, oldest_waiting=oldest)


def unused(name: str) -> PoolState:
    """Return the state of a pool that nobody knows: nobody works there."""
    counts = ("workers", "draining", "capacity", "running", "scheduled", "room", "waiting")
    return PoolState(name=name, paused=False, **dict.fromkeys(counts, 0), oldest_waiting=None)


async def pause_pool(tx: Tx, name: str) -> int:
    """Dispatch nothing more to a pool, and return its key's id. Raises UnknownPool."""
    return await _set_paused(tx, name, paused=True)


async def resume_pool(tx: Tx, name: str) -> int:
    """Take back a pause, and return the id of the pool's key. Raises UnknownPool."""
    return await _set_paused(tx, name, paused=False)


async def dispatched(tx: Tx, name: str, most: int) -> tuple[list[UUID], list[int]]:
    """Return what a pool was sent and no worker took yet, oldest first: ids and attempts."""
    rows = await tx.fetch(SQL["dispatched"], name, most)
    return [row["execution_id"] for row in rows], [row["attempt"] for row in rows]


async def pool_held(tx: Tx, name: str) -> tuple[bool, int]:
    """Return whether a pool is paused, and how many are in flight there. Raises UnknownPool."""
    row = await tx.fetchrow(SQL["pool_holders"], name)
    if row is None:
        raise await _unknown(tx, name)
    return row["paused"], row["active"]


async def _set_paused(tx: Tx, name: str, *, paused: bool) -> int:
    if name not in await _known(tx):
        raise await _unknown(tx, name)
    changes = json.dumps({"paused": paused, "kept": True})
    changed: int = await tx.fetchval(SQL["set_queue"], "pool", name, changes)
    return changed


async def _known(tx: Tx) -> list[str]:
    return [row["name"] for row in await tx.fetch(SQL["known_pools"])]


async def _unknown(tx: Tx, name: str) -> UnknownPool:
    hint = did_you_mean(name, await _known(tx)) or "; `interlock pools show` lists them"
    return UnknownPool(f'no pool is called "{name[:100]}"{hint}')
