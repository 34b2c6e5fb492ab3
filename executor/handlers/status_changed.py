"""The ExecutionManager: reacts to `execution.status_changed`.

Law 5. Handling twice equals handling once. Same status again: no write, debug log, orchestration still runs: whatever a
message is worth, the parent that it names is driven on.
Law 2. Each move has one owner and one guarded statement: a row that is behind its message is moved by the guarded
statement with its attempt, and by nothing else. It publishes no completions.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from executor import store
from executor.handlers.outgoing import Outgoing
from executor.handlers.parents import drive
from executor.rules.status import Verdict, compare
from interlock.adapters.logs import get_logger
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from asyncpg import Record

    from interlock.acceptance.catalog import Catalog
    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics
    from interlock.contract import events


class ExecutionManager:
    """Compares each hint with its row, heals what a failover lost, and enters again what came back to `requested`."""

    def __init__(self, *, actor: str, catalog: Catalog, metrics: Metrics) -> None:
        self._actor = actor
        self._catalog = catalog
        self._metrics = metrics
        self._log = get_logger("execution_manager")
        self._telling = self._log.is_enabled_for(logging.DEBUG)

    async def __call__(self, tx: Tx, batch: Sequence[events.StatusChanged]) -> Outgoing:
        """Handle one flush of hints."""
        outgoing = Outgoing()
        elsewhere = await store.elsewhere(tx, [_told(event) for event in batch])
        behind: list[store.LostMove] = []
        returned: list[UUID] = []
        parents: set[UUID] = set()
        verdicts: Counter[Verdict] = Counter()
        for number, event in enumerate(batch, 1):
            verdict = _compare(elsewhere[number], event) if number in elsewhere else Verdict.UNCHANGED
            verdicts[verdict] += 1
            if (parent := _parent(event)) is not None:
                parents.add(parent)
            if self._telling:
                self._note(verdict, event)
            if verdict is Verdict.BEHIND and event.data.source is not None:
                behind.append(_lost_move(event))
            elif verdict is Verdict.UNCHANGED and event.data.target is Status.REQUESTED:
                returned.append(event.data.id)
        self._count(verdicts)
        if behind:
            outgoing.messages, moved = await store.catch_up(tx, behind)
            self._log.warning("rows were behind their messages", moved=[str(identity) for identity in moved])
            returned += [move.id for move in behind if move.target is Status.REQUESTED]
        if returned:
            outgoing.add(await store.admit(tx, self._actor, entering=sorted(set(returned))))
        if parents:
            outgoing.add(await drive(tx, parents, self._actor, self._catalog))
        return outgoing

    def _note(self, verdict: Verdict, event: events.StatusChanged) -> None:
        data = event.data
        if verdict is Verdict.UNCHANGED:
            self._log.debug("status unchanged", execution_id=str(data.id), status=data.target, attempt=data.attempt)
        elif verdict is Verdict.STALE:
            self._log.debug("stale", execution_id=str(data.id), told=data.target, attempt=data.attempt)

    def _count(self, verdicts: Counter[Verdict]) -> None:
        messages, kind = self._metrics.messages, "execution.status_changed"
        self._metrics.writes_skipped.inc(verdicts[Verdict.UNCHANGED])
        self._metrics.behind.inc(verdicts[Verdict.BEHIND])
        messages.labels(kind, "processed").inc(verdicts[Verdict.UNCHANGED] + verdicts[Verdict.BEHIND])
        messages.labels(kind, "stale").inc(verdicts[Verdict.STALE])


def _told(event: events.StatusChanged) -> store.Told:
    data = event.data
    return data.id, data.target, data.attempt, data.epoch


def _parent(event: events.StatusChanged) -> UUID | None:
    """The parent to drive on: that of a child, or what moved itself. A leaf runs by an attempt, a parent by none."""
    data = event.data
    if data.parent_id is None and data.attempt == 0 and data.target in (Status.RUNNING, Status.CANCELLING):
        return data.id
    return data.parent_id


def _compare(row: Record, event: events.StatusChanged) -> Verdict:
    data = event.data
    stands = None if row["status"] is None else (Status(row["status"]), row["attempt"], row["epoch"])
    return compare(stands, (data.source, data.target, data.attempt, data.epoch))


def _lost_move(event: events.StatusChanged) -> store.LostMove:
    data = event.data
    assert data.source is not None  # noqa: S101 - a row cannot be behind its own insertion
    return store.LostMove(id=data.id, attempt=data.attempt, source=data.source, target=data.target, actor=event.source)
