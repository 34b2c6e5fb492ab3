"""Registers definitions: a new version for what changed, and the bounds of its keys. Takes the transaction.

A version never changes. The live bounds of a key change only when its definition's do, so that what an operator set by
hand outlives every definition that stayed as it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.actions.definition import disagreements
from interlock.client.batch_registry import check_names, register_batches, registered_batches, withdraw_batches
from interlock.client.records import Applied, stored_action
from interlock.client.store import SQL
from interlock.contract.batches import Batch
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asyncpg import Record
    from pydantic import JsonValue

    from interlock.adapters.postgres import Tx
    from interlock.contract.keys import Bounds
    from interlock.contract.stored import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """What becomes of the definitions of one kind, by name."""

    added: frozenset[str]
    changed: frozenset[str]
    unchanged: frozenset[str]
    withdrawn: frozenset[str]

    @property
    def new(self) -> frozenset[str]:
        """The names that get a new version."""
        return self.added | self.changed

    @property
    def standing(self) -> frozenset[str]:
        """The names that may be asked for afterwards, as far as they were given."""
        return self.new | self.unchanged


async def apply_definitions(tx: Tx, definitions: Iterable[Action | Batch], *, prune: bool = False) -> Applied:
    """Make `definitions` the newest versions; with `prune`, withdraw every other one.

    Must be the first thing its transaction locks. Executions may have to be admitted on `keys` after the commit;
    the executors find them, too, only later. Raises InvalidDefinition when two actions bound one key differently, when
    an action and a batch have one name, and when a batch starts an action that is not there.
    """
    given = list(definitions)
    actions = {each.action: each for each in given if isinstance(each, Action)}
    batches = {each.batch: each for each in given if isinstance(each, Batch)}
    await tx.execute(SQL["lock_registry"])
    known = {row["name"]: row for row in await tx.fetch(SQL["registered"])}
    known_batches = await registered_batches(tx)
    stood = {name: stored_action(name, row["definition"]) for name, row in known.items()}
    before = {name: action for name, action in stood.items() if not known[name]["withdrawn"]}
    of_actions, of_batches = _difference(actions, known, prune=prune), _difference(batches, known_batches, prune=prune)
    if differences := disagreements((actions if prune else before | actions).values()):
        raise InvalidDefinition("\n".join(differences))
    check_names(batches.values(), _left(of_actions, known), _left(of_batches, known_batches))
    await _register(tx, [actions[name] for name in of_actions.new], known)
    await register_batches(tx, [batches[name] for name in of_batches.new], known_batches)
    if of_actions.withdrawn:
        await tx.execute(SQL["withdraw"], list(of_actions.withdrawn))
    await withdraw_batches(tx, of_batches.withdrawn)
    bounds = _changes(stood.values(), (action for name, action in actions.items() if name in of_actions.new))
    return Applied(
        added=tuple(sorted(of_actions.added | of_batches.added)),
        changed=tuple(sorted(of_actions.changed | of_batches.changed)),
        unchanged=tuple(sorted(of_actions.unchanged | of_batches.unchanged)),
        withdrawn=tuple(sorted(of_actions.withdrawn | of_batches.withdrawn)),
        limits={name: bound.limit for name, bound in bounds.items()},
        keys=await _set_bounds(tx, bounds),
    )


def _difference(wanted: Mapping[str, Stored], known: Mapping[str, Record], *, prune: bool) -> _Difference:
    before = frozenset(name for name, row in known.items() if not row["withdrawn"])
    stayed = frozenset(name for name in before & wanted.keys() if known[name]["checksum"] == wanted[name].checksum())
    return _Difference(
        added=frozenset(wanted.keys() - before),
        changed=before & wanted.keys() - stayed,
        unchanged=stayed,
        withdrawn=before - wanted.keys() if prune else frozenset(),
    )


def _left(difference: _Difference, known: Mapping[str, Record]) -> frozenset[str]:
    """Return every name of one kind that may be asked for afterwards."""
    before = frozenset(name for name, row in known.items() if not row["withdrawn"])
    return difference.standing | before - difference.withdrawn


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
