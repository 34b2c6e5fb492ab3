"""Registers definitions: a new version for what changed, and the bounds of its keys. Takes the transaction.

A version never changes. The live bounds of a key change only when its definition's do, so that what an operator set by
hand outlives every definition that stayed as it was.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from interlock.actions.definition import disagreements
from interlock.client.records import Applied, stored_action
from interlock.client.store import SQL
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncpg import Record
    from pydantic import JsonValue

    from interlock.adapters.postgres import Tx
    from interlock.contract.keys import Bounds


async def apply_actions(tx: Tx, actions: Iterable[Action], *, prune: bool = False) -> Applied:
    """Make `actions` the newest versions; with `prune`, withdraw every other one.

    Must be the first thing its transaction locks. Executions may have to be admitted on `keys` after the commit;
    the executors find them, too, only later. Raises InvalidDefinition when two actions bound one key differently.
    """
    wanted = {action.action: action for action in actions}
    await tx.execute(SQL["lock_registry"])
    known = {row["name"]: row for row in await tx.fetch(SQL["registered"])}
    stood = {name: stored_action(name, row["definition"]) for name, row in known.items()}
    before = {name: action for name, action in stood.items() if not known[name]["withdrawn"]}
    if differences := disagreements((wanted if prune else before | wanted).values()):
        raise InvalidDefinition("\n".join(differences))
    added = [name for name in wanted if name not in before]
    changed = [name for name in wanted if name in before and known[name]["checksum"] != wanted[name].checksum()]
    withdrawn = sorted(before.keys() - wanted.keys()) if prune else []
    await _register(tx, [wanted[name] for name in (*added, *changed)], known)
    if withdrawn:
        await tx.execute(SQL["withdraw"], withdrawn)
    bounds = _changes(stood.values(), (wanted[name] for name in (*added, *changed)))
    return Applied(
        added=tuple(sorted(added)),
        changed=tuple(sorted(changed)),
        unchanged=tuple(sorted(wanted.keys() - {*added, *changed})),
        withdrawn=tuple(withdrawn),
        limits={name: bound.limit for name, bound in bounds.items()},
        keys=await _set_bounds(tx, bounds),
    )


def _changes(before: Iterable[Action], new: Iterable[Action]) -> dict[str, Bounds]:
    """Return the bounds that were not the same before, by the name of the key as definitions write it."""
    stood = {name: bounds.columns() for action in before for name, bounds in action.bounds().items()}
    unbounded = Action(action="none", command=("none",)).columns()
    return {
        name: bounds
        for action in new
        for name, bounds in action.bounds().items()
        if bounds.columns() != stood.get(name, unbounded)
    }


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


async def _set_bounds(tx: Tx, bounds: Mapping[str, Bounds]) -> tuple[int, ...]:
    """Change the bounds of every key that these templates made, paused or not as they are; returns the keys."""
    if not bounds:
        return ()
    await tx.execute(SQL["make_keys"], [name for name in bounds if name.startswith("action:")])
    keys = await tx.fetch(SQL["lock_keys"], list(bounds))
    for key in keys:
        changes: dict[str, JsonValue] = {**bounds[key["template"]].columns(), "template": key["template"]}
        await tx.execute(SQL["set_queue"], "leaf", key["name"], json.dumps(changes))
    return tuple(key["id"] for key in keys)
