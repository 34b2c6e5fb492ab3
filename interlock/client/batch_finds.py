"""Batches by a part of their id, and what a restart would take. Writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from interlock.client import store
from interlock.client.batch_records import Chosen, ChosenShare
from interlock.client.batches import CHOSEN, Batches, NotABatch, NotRestartable
from interlock.client.ids import AmbiguousId, Fragment, UnknownId, short
from interlock.client.store import SQL
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from uuid import UUID

    from interlock.adapters.postgres import Tx
    from interlock.client.batch_records import Choice

MOST_CANDIDATES: Final = 6
MOST_KEYS: Final = 10
PLAN: Final = "$plan"


class FoundBatches(Batches):
    """The client's view of batches, and finding one."""

    async def find(self, text: str) -> UUID:
        """The one batch whose id is `text`, or begins or ends so.

        Raises UnknownId, AmbiguousId, and NotABatch for another kind of execution, with what it is. A whole id is not
        looked up.
        """
        fragment = Fragment.parse(text)
        if fragment.whole is not None:
            return fragment.whole
        return await self._patiently(_find, fragment, text)

    async def chosen(self, identity: UUID, choice: Choice | None = None) -> Chosen:
        """What `restart` would take with this choice. Raises as `restart` does, but not where nothing is chosen."""
        state = await self.get(identity)
        if state.status not in TERMINAL:
            raise NotRestartable(f"batch {identity} is {state.status}: cancel it, or wait for its end")
        if not state.planned:
            raise NotRestartable(
                f"the plan of batch {identity} was never finished: plan it anew with --replan, or start a new one"
            )
        statuses = CHOSEN if choice is None else choice.statuses
        keys = choice.keys if choice else None
        errors = choice.errors if choice else None
        return await self._patiently(_chosen, identity, statuses, keys, errors)


async def _find(tx: Tx, fragment: Fragment, text: str) -> UUID:
    rows = await tx.fetch(SQL["find_batches"], fragment.first, fragment.last, fragment.ending, MOST_CANDIDATES)
    if len(rows) == 1:
        identity: UUID = rows[0]["id"]
        return identity
    if rows:
        found = [row["id"] for row in rows]
        shown = ", ".join(map(str, found[: MOST_CANDIDATES - 1]))
        more = " and more" if len(found) == MOST_CANDIDATES else ""
        raise AmbiguousId(f"{text!r} may be {shown}{more}: give more of the id", found)
    others = await store.find(tx, fragment, 1)
    if not others:
        raise UnknownId(f"no batch has an id that begins or ends with {text!r}; `interlock list` shows what there is")
    child = await tx.fetchrow(SQL["child_of"], others[0])
    if child is None or child["parent_id"] is None:
        raise NotABatch(f"{text!r} is no batch but one execution: `interlock show {text}`")
    what = "the planning" if child["child_key"] == PLAN else f"partition {child['child_key']!r}"
    batch: UUID = child["parent_id"]
    raise NotABatch(f"{text!r} is {what} of batch {batch}: `interlock batch show {short(batch)}`")


async def _chosen(
    tx: Tx,
    identity: UUID,
    statuses: tuple[Status, ...] | None,
    keys: tuple[str, ...] | None,
    errors: tuple[str, ...] | None,
) -> Chosen:
    wanted = None if statuses is None else [str(each) for each in statuses]
    named = None if keys is None else list(keys)
    rows = await tx.fetch(SQL["chosen"], identity, wanted, named, None if errors is None else list(errors), MOST_KEYS)
    unknown = await tx.fetch(SQL["unknown_keys"], identity, named) if named else []
    return Chosen(
        shares=tuple(
            ChosenShare(status=Status(row["status"]), partitions=row["partitions"], keys=tuple(row["keys"]))
            for row in rows
        ),
        unknown=tuple(row["key"] for row in unknown),
    )
