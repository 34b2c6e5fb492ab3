"""`execution.cancel_requested`: what waits ends, what runs is told to stop, what is not there yet is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor import store
from executor.handlers.outgoing import Outgoing
from interlock.acceptance.store import bury, force
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from interlock.adapters.postgres import Tx
    from interlock.contract import events


class CancelRequested:
    """Cancels by id. Whoever commits first wins: work that finished before stays as it ended."""

    def __init__(self, *, actor: str) -> None:
        self._actor = actor

    async def __call__(self, tx: Tx, batch: Sequence[events.CancelRequested]) -> Outgoing:
        """Cancel one flush; one admission per distinct reason."""
        outgoing = Outgoing()
        reasons = {event.data.id: event.data.reason or "cancelled on request" for event in batch}
        by_reason: dict[str, list[UUID]] = {}
        for identity, reason in sorted(reasons.items()):
            by_reason.setdefault(reason, []).append(identity)
        async with tx.transaction():  # the locks of the admission keep what is forced where it stands
            await bury(tx, reasons, self._actor)
            for reason, ids in by_reason.items():
                decisions = [store.Decision(id=identity, target=Status.CANCELLED) for identity in ids]
                outgoing.add(await store.admit(tx, self._actor, decisions=decisions, reason=reason))
            if forced := sorted({event.data.id for event in batch if event.data.force}):
                await force(tx, forced, self._actor)
        return outgoing
