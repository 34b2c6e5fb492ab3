"""Durable time: what falls due is a row, so a restart forgets nothing. Also admits where a key owes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from executor import store
from interlock.adapters.faults import reached
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from asyncpg import Record

    from executor.loops.periodic import Context

SHORTEST_SECONDS: Final = 0.01


class Deadline(NamedTuple):
    """What passing a deadline leads to. `of_attempt`: it misses what a later attempt has moved on."""

    target: Status
    reason: str
    of_attempt: bool


DEADLINES: Final = {
    # Queue is about waiting: with the attempt as its fence it misses what was admitted meanwhile. Run is about one
    # attempt: only what runs can become cancelling, so a retry that waits already is not ended.
    "queue": Deadline(Status.TIMED_OUT, "timed_out: waited longer than its queue timeout", of_attempt=True),
    "run": Deadline(Status.CANCELLING, "timed_out: ran longer than its run timeout", of_attempt=True),
    "total": Deadline(Status.TIMED_OUT, "timed_out: not finished by its deadline", of_attempt=False),
}


async def timers(context: Context) -> float | None:
    """Enter what is due again, end what is late, and admit on for keys with room and waiters.

    Returns the seconds until a rate lets the next go, should that be sooner than the next pass.
    """
    async with context.transaction() as tx:
        due = await store.due_timers(tx)
        hungry = await store.hungry_keys(tx)
    await reached("timers.read")
    keys = [key["id"] for key in hungry if key["due_in"] <= 0]
    admitted = 0
    if due:
        admitted = await _fire(context, due, keys)
    elif keys:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, keys=keys)
        await reached("timers.admitted")
        context.offer(admission)
        admitted = admission.admitted
    if keys and admitted:
        return 0.0  # What is owed may be more than one call admits, and a rate goes on.
    # Of a rate that is due and gave nothing, the clock was a rounding ahead.
    return min((max(key["due_in"], SHORTEST_SECONDS) for key in hungry if key["due_in"] != 0), default=None)


def decisions(kind: str, late: Sequence[Record]) -> list[store.Decision]:
    """What timers of one kind of deadline lead to, as they were read."""
    deadline = DEADLINES[kind]
    return [
        store.Decision(
            id=timer["execution_id"],
            target=deadline.target,
            attempt=timer["attempt"] if deadline.of_attempt else None,
        )
        for timer in late
    ]


async def _fire(context: Context, due: list[Record], keys: list[int]) -> int:
    """End what is late, one transaction for each kind of deadline, then enter what is due and is still there."""
    for kind, deadline in DEADLINES.items():
        if late := [timer for timer in due if timer["kind"] == kind]:
            await _settle(context, late, decisions=decisions(kind, late), reason=deadline.reason)
    entering = [timer for timer in due if timer["kind"] == "enter"]
    if not entering and not keys:
        return 0
    return await _settle(context, entering, entering=[timer["execution_id"] for timer in entering], keys=keys)


async def _settle(
    context: Context,
    due: list[Record],
    *,
    decisions: Sequence[store.Decision] = (),
    reason: str = "",
    entering: Sequence[UUID] = (),
    keys: Sequence[int] = (),
) -> int:
    async with context.transaction() as tx:
        admission = await store.admit(
            tx, context.actor, entering=entering, decisions=decisions, reason=reason, keys=keys
        )
        await store.forget_timers(tx, due)
    await reached("timers.fired")
    context.offer(admission)
    return admission.admitted
