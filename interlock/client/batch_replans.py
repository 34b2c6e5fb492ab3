"""Restarting a batch with a plan that is made anew: first a look at the difference, then all of it in one transaction.

The look changes nothing of the batch. What is applied is what was looked at: refused when either has moved on since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uuid_utils.compat import uuid7

from interlock.client.batch_finds import FoundBatches
from interlock.client.batch_records import Choice, Difference, KeyShare, Replanned
from interlock.client.batches import NotRestartable, ended_row, next_planning
from interlock.client.store import SQL
from interlock.contract.batches import Batch
from interlock.contract.canonical import canonical_json

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Record

    from interlock.adapters.postgres import Tx

MOST_KEYS: Final = 10
NOTHING: Final = Choice(statuses=())
"""What a restart with another plan makes again of what stayed, unless it is told otherwise."""


class Replans(FoundBatches):
    """The client's view of batches, and planning them anew."""

    async def plan_anew(self, identity: UUID) -> UUID:
        """Let the plan of an ended batch be made anew, to look at it; returns the execution that does.

        A batch has one such plan, the newest. Raises UnknownId, NotABatch and NotRestartable.
        """
        return await self._patiently(self._plan_anew, identity, uuid7())

    async def _plan_anew(self, tx: Tx, identity: UUID, preview: UUID) -> UUID:
        row = await ended_row(tx, identity)
        if not Batch.from_stored(row["definition"]).sealed:
            raise NotRestartable(f"batch {identity} is an open one: what was added to it is in no plan")
        _, *where = await next_planning(tx, row)
        tags = canonical_json([f"batch:{identity}"])
        await tx.execute(
            SQL["preview_batch"],
            identity,
            row["epoch"],
            preview,
            *where,
            tags,
            self._actor,
        )
        return preview

    async def difference(self, identity: UUID, preview: UUID, choice: Choice = NOTHING) -> Difference:
        """What `replan` would do with this plan and choice. Raises as `replan` does."""
        return await self._patiently(_difference, identity, preview, choice)

    async def replan(self, identity: UUID, preview: UUID, choice: Choice = NOTHING) -> Replanned:
        """Restart an ended batch with a plan that was made anew, in a new epoch.

        Its new keys are made, what is gone no longer counts, and what stayed is kept, or made again where it is chosen.
        Raises UnknownId, NotABatch, and NotRestartable unless the plan is whole and of the batch as it stands.
        """
        return await self._patiently(self._replan, identity, preview, choice)

    async def _replan(self, tx: Tx, identity: UUID, preview: UUID, choice: Choice) -> Replanned:
        row = await _previewed(tx, identity, preview)
        done = await tx.fetchrow(
            SQL["replan_batch"],
            identity,
            row["epoch"],
            preview,
            *choice.columns,
            *await next_planning(tx, row),
            "restarted with a new plan",
            self._actor,
        )
        assert done is not None  # noqa: S101 - the function returns exactly one row
        return Replanned(made=done["made"], gone=done["gone"])


async def _previewed(tx: Tx, identity: UUID, preview: UUID) -> Record:
    """The batch as it stands, if this plan is whole and was made for it as it stands."""
    row = await ended_row(tx, identity)
    found = await tx.fetchrow(SQL["preview_of"], identity)
    if found is None or found["plan_id"] != preview:
        raise NotRestartable(f"{preview} is not the plan that was last made anew for batch {identity}: plan again")
    if found["epoch"] != row["epoch"]:
        raise NotRestartable(f"batch {identity} was restarted since the plan {preview} was made: plan again")
    if not found["planned"]:
        raise NotRestartable(f"the plan {preview} is not whole: `interlock show {preview}` says where it stands")
    return row


async def _difference(tx: Tx, identity: UUID, preview: UUID, choice: Choice) -> Difference:
    row = await _previewed(tx, identity, preview)
    found = await tx.fetch(SQL["difference"], identity, preview, *choice.columns, MOST_KEYS)
    unknown = await tx.fetch(SQL["unknown_keys"], identity, list(choice.keys)) if choice.keys else []
    fates = {each["fate"]: each for each in found}

    def share(fate: str, count: str = "partitions", keys: str = "keys") -> KeyShare:
        each = fates.get(fate)
        return KeyShare() if each is None else KeyShare(partitions=each[count], keys=tuple(each[keys] or ()))

    return Difference(
        preview=preview,
        epoch=row["epoch"],
        new=share("new"),
        gone=share("gone"),
        same=share("same"),
        again=share("same", "again", "again_keys"),
        changed=share("same", "changed", "changed_keys"),
        unknown=tuple(each["key"] for each in unknown),
    )
