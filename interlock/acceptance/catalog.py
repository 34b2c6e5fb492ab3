"""Registered definitions by name. Versions never change and are kept; which one is current is asked every time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from interlock.acceptance.entries import BatchEntry, Entry
from interlock.actions.validation import Schema
from interlock.adapters.logs import get_logger
from interlock.adapters.statements import Statements
from interlock.contract.batches import Batch
from interlock.contract.definitions import Action
from interlock.contract.errors import UnknownAction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interlock.adapters.postgres import Tx

_SQL = Statements("interlock.acceptance")


class Catalog:
    """Parsed definitions of one process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Entry] = {}
        self._batches: dict[tuple[str, int], BatchEntry] = {}
        self._log = get_logger("catalog")

    async def current(self, tx: Tx, names: Iterable[str]) -> dict[str, Entry]:
        """The current entry of each of `names` that is registered (withdrawn ones included)."""
        rows = await tx.fetch(_SQL["current_actions"], sorted(set(names)))
        found = await self.pinned(tx, [(row["name"], row["version"]) for row in rows])
        return {
            row["name"]: Entry(
                action=entry.action, version=entry.version, withdrawn=row["withdrawn"], schema=entry.schema
            )
            for row in rows
            if (entry := found.get((row["name"], row["version"]))) is not None
        }

    async def runnable(self, tx: Tx, name: str) -> Entry:
        """The current entry of an action. Raises UnknownAction when there is none, or it was withdrawn."""
        entry = (await self.current(tx, [name])).get(name)
        if entry is None or entry.withdrawn:
            raise UnknownAction(f"action {name!r} is not registered; `interlock actions list` shows what is")
        return entry

    async def names(self, tx: Tx) -> list[str]:
        """Every action that may be asked for."""
        return [row["name"] for row in await tx.fetch(_SQL["action_names"])]

    async def pinned(self, tx: Tx, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Entry]:
        """The entries of these (name, version) pairs, as far as this version can read them; executions pin one."""
        missing = sorted({pair for pair in wanted if pair not in self._kept})
        if missing:
            rows = await tx.fetch(_SQL["definitions"], [name for name, _ in missing], [v for _, v in missing])
            for row in rows:
                try:
                    action = Action.from_stored(row["definition"])
                    schema = Schema(action.params)
                except ValueError as error:
                    # Written by a newer version: this one cannot run it, and everything else goes on.
                    self._log.error("a definition cannot be read", action=row["name"], reason=str(error))
                    continue
                self._kept[row["name"], row["version"]] = Entry(
                    action=action, version=row["version"], withdrawn=False, schema=schema
                )
        return self._kept

    async def batches(self, tx: Tx, names: Iterable[str]) -> dict[str, BatchEntry]:
        """The current entry of each of `names` that is a registered batch (withdrawn ones included)."""
        found: dict[str, BatchEntry] = {}
        for row in await tx.fetch(_SQL["current_batches"], sorted(set(names))):
            pair = (row["name"], row["version"])
            if pair not in self._batches:
                try:
                    batch = Batch.from_stored(row["definition"])
                    entry = BatchEntry(
                        batch=batch, version=row["version"], withdrawn=False, schema=Schema(batch.params)
                    )
                except ValueError as error:
                    self._log.error("a definition cannot be read", batch=row["name"], reason=str(error))
                    continue
                self._batches[pair] = entry
            kept = self._batches[pair]
            found[row["name"]] = replace(kept, withdrawn=True) if row["withdrawn"] else kept
        return found
