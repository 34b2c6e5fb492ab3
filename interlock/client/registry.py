"""Registers definitions: a new version for what changed, and the limit of its key. Takes the transaction.

A version never changes. A live limit changes only when its definition's does, so that what an operator set by hand
outlives every definition that stayed as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.client.records import Applied
from interlock.client.store import SQL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncpg import Record

    from interlock.adapters.postgres import Tx
    from interlock.contract.definitions import Action


async def apply_actions(tx: Tx, actions: Iterable[Action], *, prune: bool = False) -> Applied:
    """Make `actions` the newest versions; with `prune`, withdraw every other one.

    Must be the first thing its transaction locks. Executions may have to be admitted on `keys` after the commit;
    the executors find them, too, only later.
    """
    wanted = {action.action: action for action in actions}
    await tx.execute(SQL["lock_registry"])
    known = {row["name"]: row for row in await tx.fetch(SQL["registered"])}
    added = [name for name in wanted if name not in known or known[name]["withdrawn"]]
    changed = [
        name for name, action in wanted.items() if name not in added and known[name]["checksum"] != action.checksum()
    ]
    withdrawn = sorted(n for n, row in known.items() if n not in wanted and not row["withdrawn"]) if prune else []
    new = [wanted[name] for name in (*added, *changed)]
    limits = {action.action: action.limit for action in new if action.limit != _limit(known.get(action.action))}
    await _register(tx, new, known)
    if withdrawn:
        await tx.execute(SQL["withdraw"], withdrawn)
    return Applied(
        added=tuple(sorted(added)),
        changed=tuple(sorted(changed)),
        unchanged=tuple(sorted(wanted.keys() - {*added, *changed})),
        withdrawn=tuple(withdrawn),
        limits=limits,
        keys=await _set_limits(tx, limits),
    )


def _limit(known: Record | None) -> int | None:
    return None if known is None else known["limit"]


async def _register(tx: Tx, actions: list[Action], known: Mapping[str, Record]) -> None:
    if not actions:
        return
    await tx.execute(
        SQL["register"],
        [action.action for action in actions],
        [known[action.action]["version"] + 1 if action.action in known else 1 for action in actions],
        [action.canonical() for action in actions],
        [action.checksum() for action in actions],
    )


async def _set_limits(tx: Tx, limits: Mapping[str, int | None]) -> tuple[int, ...]:
    """Change the limits of these actions' keys, paused or not as they are; returns the keys."""
    if not limits:
        return ()
    wanted = {f"action:{name}": limit for name, limit in limits.items()}
    await tx.execute(SQL["make_keys"], list(wanted))
    keys = await tx.fetch(SQL["lock_keys"], list(wanted))
    for key in keys:
        await tx.execute(SQL["set_limit"], key["name"], wanted[key["name"]], key["paused"])
    return tuple(key["id"] for key in keys)
