"""Batches: how far they are, restarting and cancelling them, and adding to those that are open.

Every figure is read from rows; nothing is counted here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson

from interlock.acceptance.candidates import planned
from interlock.acceptance.catalog import Catalog
from interlock.acceptance.lanes import lanes
from interlock.acceptance.partitions import Parent, add_partitions, partition_candidate
from interlock.actions.partitions import Partitioner
from interlock.client import store
from interlock.client.batch_records import Added, BatchState, Choice, FailureGroup, Partition
from interlock.client.explain import Unexplained, explain
from interlock.client.ids import UnknownId
from interlock.client.patience import Patience
from interlock.contract.batches import COUNTED, Batch
from interlock.contract.errors import InterlockError
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from asyncpg import Pool, Record
    from pydantic import JsonValue

    from interlock.acceptance.candidates import Candidate
    from interlock.adapters.postgres import Tx

CHUNK: Final = 5_000
RATE_MINUTES: Final = 5
STALLED_SECONDS: Final = 10.0
MOST_GROUPS: Final = 20
CHOSEN: Final = (Status.PARTIAL, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.ABANDONED)
"""What a restart takes unless it is told otherwise: whatever did not complete, but for what chose not to run."""


class NotABatch(InterlockError):
    """An execution that is no batch."""


class NotRestartable(InterlockError):
    """A batch that cannot be restarted, or not so."""


class NotOpen(InterlockError):
    """A batch that takes no more partitions."""


class Batches(Patience):
    """The client's view of batches."""

    def __init__(self, pool: Pool[Any], actor: str) -> None:
        super().__init__(pool)
        self._actor = actor
        self._catalog = Catalog()

    async def get(self, identity: UUID) -> BatchState:
        """One batch as it stands. Raises UnknownId and NotABatch."""
        state = await self._at_once(_state, identity)
        if state.stalled_since is None:
            return state
        return replace(state, stalled_reason=await self._patiently(_reason, identity))

    async def partitions(
        self,
        identity: UUID,
        *,
        status: Collection[Status] = (),
        superseded: bool = False,
        limit: int = 50,
        cursor: UUID | None = None,
    ) -> tuple[Sequence[Partition], UUID | None]:
        """Partitions in the order of their ids, and the cursor behind the last of them, None at the end."""
        found = await self._patiently(
            _partitions, identity, list(status), superseded=superseded, limit=limit + 1, cursor=cursor
        )
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def failures(self, identity: UUID) -> Sequence[FailureGroup]:
        """What failed, grouped by what it failed of, the commonest first."""
        return await self._patiently(_failures, identity)

    async def restart(self, identity: UUID, choice: Choice | None = None) -> int:
        """Make chosen partitions of an ended batch again, in a new epoch; returns how many.

        What is not chosen stays and counts. Raises UnknownId, NotABatch and NotRestartable.
        """
        return await self._patiently(self._restart, identity, choice or Choice(statuses=CHOSEN))

    async def _restart(self, tx: Tx, identity: UUID, choice: Choice) -> int:
        row = await ended_row(tx, identity)
        if not row["planned"]:
            raise NotRestartable(
                f"the plan of batch {identity} was never finished: plan it anew with --replan, or start a new one"
            )
        chosen = await tx.fetchval(
            store.SQL["restart_batch"],
            identity,
            row["epoch"],
            *choice.columns,
            *await next_planning(tx, row),
            "restarted",
            self._actor,
        )
        if not chosen:
            raise NotRestartable(f"no partition of batch {identity} is chosen: see `interlock batch partitions`")
        return int(chosen)

    async def cancel(self, identity: UUID, reason: str = "cancelled on request", *, drain: bool = False) -> bool:
        """Cancel a batch and what is open of it; with `drain`, what runs may finish. Whether this call did it."""
        return await self._patiently(self._cancel, identity, reason, drain)

    async def _cancel(self, tx: Tx, identity: UUID, reason: str, drain: bool) -> bool:  # noqa: FBT001 - passed on
        await batch_row(tx, identity)
        admission = await store.admit(tx, self._actor, decided=[identity], reason=reason)
        if drain:
            await tx.execute(store.SQL["drain_batch"], identity)
        return identity in admission.decided

    async def add(self, identity: UUID, items: Iterable[JsonValue]) -> Added:
        """Add the partitions of these items to an open batch, 5,000 to a transaction.

        A key that is there already is told, not made again. Raises NotOpen, InvalidParams and UnknownAction.
        """
        added: list[str] = []
        known: list[str] = []
        chunk: list[tuple[int, JsonValue]] = []
        for numbered in enumerate(items, start=1):
            chunk.append(numbered)
            if len(chunk) == CHUNK:
                await self._add_chunk(identity, chunk, added, known)
                chunk = []
        if chunk:
            await self._add_chunk(identity, chunk, added, known)
        return Added(added=tuple(added), known=tuple(known))

    async def _add_chunk(
        self, identity: UUID, chunk: Sequence[tuple[int, JsonValue]], added: list[str], known: list[str]
    ) -> None:
        new, old = await self._patiently(self._add, identity, chunk)
        added += new
        known += old

    async def _add(
        self, tx: Tx, identity: UUID, numbered: Sequence[tuple[int, JsonValue]]
    ) -> tuple[list[str], list[str]]:
        row = await batch_row(tx, identity)
        if Status(row["status"]) is not Status.RUNNING or row["sealed"] or not row["planned"]:
            stands = "is sealed" if row["sealed"] else "plans still" if not row["planned"] else f"is {row['status']}"
            raise NotOpen(f"batch {identity} takes no partitions: it {stands}")
        parent = Parent(identity, row["epoch"], Batch.from_stored(row["definition"]))
        entry = await self._catalog.runnable(tx, parent.batch.run.action)
        partitioner = Partitioner(parent.batch, orjson.loads(row["params"]))
        made: dict[UUID, Candidate] = {}
        repeated: list[str] = []
        for number, item in numbered:
            candidate = partition_candidate(parent, entry, *partitioner.partition(item, number))
            if candidate.id in made:
                repeated.append(candidate.child_key or "")
            made.setdefault(candidate.id, candidate)
        added = await add_partitions(tx, identity, list(made.values()), self._actor)
        if added is None:
            raise NotOpen(f"batch {identity} takes no partitions any more")
        keys = [candidate.child_key or "" for candidate in made.values() if candidate.id in added]
        return keys, [c.child_key or "" for c in made.values() if c.id not in added] + repeated

    async def seal(self, identity: UUID) -> bool:
        """Say that no more partitions come; whether this call did it. Raises NotOpen while it plans, and UnknownId."""
        return await self._patiently(self._seal, identity)

    async def _seal(self, tx: Tx, identity: UUID) -> bool:
        row = await batch_row(tx, identity)
        if not row["planned"] and Status(row["status"]) not in TERMINAL:
            raise NotOpen(f"batch {identity} plans still: seal it when its plan is made")
        return bool(await tx.fetchval(store.SQL["seal_batch"], identity, self._actor))


async def batch_row(tx: Tx, identity: UUID) -> Record:
    """One batch as it stands. Raises UnknownId and NotABatch."""
    row: Record | None = await tx.fetchrow(store.SQL["batch"], identity)
    if row is not None:
        return row
    if await store.standing(tx, [identity]):
        raise NotABatch(f"execution {identity} is no batch; `interlock show` tells about it")
    raise UnknownId(f"no execution {identity}; `interlock list` shows the newest")


async def ended_row(tx: Tx, identity: UUID) -> Record:
    """One batch that has ended, as it stands. Raises UnknownId, NotABatch and NotRestartable."""
    row = await batch_row(tx, identity)
    if (status := Status(row["status"])) not in TERMINAL:
        raise NotRestartable(f"batch {identity} is {status}: cancel it, or wait for its end")
    return row


async def next_planning(tx: Tx, row: Record) -> tuple[UUID, str, int, int | None]:
    """What plans the next epoch of a batch: its id, pool, priority and lane."""
    batch = Batch.from_stored(row["definition"])
    plan = planned(row["id"], row["epoch"] + 1, pool=batch.pool, priority=batch.priority)
    (lane,) = await lanes(tx, [plan])
    return plan.id, plan.pool, plan.priority, lane


async def _state(tx: Tx, identity: UUID) -> BatchState:
    row = await batch_row(tx, identity)
    status = Status(row["status"])
    processed = sum(row[name] for name in COUNTED)
    total = row["made"] if row["sealed"] else None
    in_flight = row["scheduled"] + row["running"]
    rate = _rate(row, processed - row["kept"])
    stalled = _stalled(row, status, in_flight)
    moving = status not in TERMINAL and total is not None and stalled is None
    eta = (total - processed) / rate if moving and rate and total is not None else None
    same = "id name epoch sealed made scheduled running max_parallel cancel_reason requested_at started_at finished_at"
    return BatchState(
        **{name: row[name] for name in (*same.split(), *COUNTED, "planned")},
        status=status,
        params=orjson.loads(row["params"]),
        total=total,
        waiting=max(0, row["made"] - processed - in_flight),
        percent=_percent(processed, total, ended=status in TERMINAL),
        rate=rate,
        eta_seconds=eta,
        stalled_since=stalled,
        stalled_reason=None,
        paused=bool(row["paused"]),
        error=None if row["error"] is None else orjson.loads(row["error"]),
    )


def _percent(processed: int, total: int | None, *, ended: bool) -> int:
    if ended:
        return 100
    return 0 if not total else min(99, math.floor(100 * processed / total))


def _rate(row: Record, done: int) -> float | None:
    """Partitions per second: of the last minutes where its key counts them, else since the start."""
    if row["started_at"] is None:
        return None
    lasted = ((row["finished_at"] or row["now"]) - row["started_at"]).total_seconds()
    if row["recent"] and done > 0 and row["finished_at"] is None:
        into_minute: float = row["now"].second + row["now"].microsecond / 1e6
        return float(min(row["recent"], done) / min(lasted, (RATE_MINUTES - 1) * 60 + into_minute))
    return float(done / lasted) if done > 0 and lasted > 0 else None


def _stalled(row: Record, status: Status, in_flight: int) -> datetime | None:
    since: datetime | None = row["progressed_at"]
    if status in TERMINAL or in_flight or since is None or row["plan_status"] == Status.RUNNING:
        return None
    return since if (row["now"] - since).total_seconds() > STALLED_SECONDS else None


async def _reason(tx: Tx, identity: UUID) -> str:
    await tx.execute(store.SQL["snapshot"])
    held: UUID | None = await tx.fetchval(store.SQL["open_partition"], identity)
    if held is None:
        return "waits for partitions: `interlock batch add` gives it some, `interlock batch seal` says that none come"
    try:
        return (await explain(tx, held)).sentence
    except Unexplained as error:
        return str(error)


async def _partitions(
    tx: Tx, identity: UUID, statuses: Sequence[Status], *, superseded: bool, limit: int, cursor: UUID | None
) -> list[Partition]:
    await batch_row(tx, identity)
    rows = await tx.fetch(
        store.SQL["partitions"], identity, cursor or UUID(int=0), [str(s) for s in statuses] or None, superseded, limit
    )
    return [
        Partition(
            **{
                **row,
                "status": Status(row["status"]),
                "error": None if row["error"] is None else orjson.loads(row["error"]),
                "result": None if row["result"] is None else orjson.loads(row["result"]),
            }
        )
        for row in rows
    ]


async def _failures(tx: Tx, identity: UUID) -> list[FailureGroup]:
    await batch_row(tx, identity)
    rows = await tx.fetch(store.SQL["failures"], identity, MOST_GROUPS)
    return [FailureGroup(**{**row, "keys": tuple(row["keys"])}) for row in rows]
