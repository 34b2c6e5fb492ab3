"""Registers the definitions of batches, by the rules of those of actions. Takes the transaction.

A name is an action's or a batch's, never both's; and what a batch starts is registered before it, or with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from interlock.client.records import RegisteredBatch
from interlock.client.store import SQL
from interlock.contract.errors import InvalidDefinition
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from asyncpg import Record

    from interlock.adapters.postgres import Tx
    from interlock.contract.batches import Batch


async def batches_list(tx: Tx) -> list[RegisteredBatch]:
    """The newest version of every batch, by name."""
    rows = await tx.fetch(SQL["batches_list"])
    return [RegisteredBatch(**{**row, "definition": orjson.loads(row["definition"])}) for row in rows]


async def registered_batches(tx: Tx) -> dict[str, Record]:
    """The newest version of every batch, by name: `version`, `checksum`, `withdrawn`."""
    return {row["name"]: row for row in await tx.fetch(SQL["registered_batches"])}


async def register_batches(tx: Tx, batches: Collection[Batch], known: Mapping[str, Record]) -> None:
    """Make each of `batches` the version after the one that is `known`."""
    if batches:
        await tx.execute(
            SQL["register_batches"],
            [batch.batch for batch in batches],
            [known[batch.batch]["version"] + 1 if batch.batch in known else 1 for batch in batches],
            [batch.canonical() for batch in batches],
            [batch.checksum() for batch in batches],
        )


async def withdraw_batches(tx: Tx, names: Collection[str]) -> None:
    """Let nobody ask for these any more; what was accepted goes on."""
    if names:
        await tx.execute(SQL["withdraw_batches"], list(names))


def check_names(wanted: Iterable[Batch], actions: Collection[str], batches: Collection[str]) -> None:
    """Raise InvalidDefinition if a name would be both an action's and a batch's, or a batch starts no known action.

    `actions` and `batches` are all that there will be.
    """
    wrong = [
        f'"{name}" would be an action and a batch; rename one, or withdraw it: `interlock actions apply --prune`'
        for name in sorted({*actions} & {*batches})
    ]
    wrong += [
        f'the batch {batch.batch} starts the action "{name}" ({field}), which is neither registered nor among these'
        + (did_you_mean(name, actions) or "; define it, too")
        for batch in wanted
        for field, name in batch.actions().items()
        if name not in actions
    ]
    if wrong:
        raise InvalidDefinition("\n".join(wrong))
