"""Durable time: what falls due is a row, so a restart forgets nothing. Also admits where a key owes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from executor import store
from interlock.contract.status import Status

if TYPE_CHECKING:
    from asyncpg import Record

    from executor.loops.periodic import Context

SHORTEST_SECONDS: Final = 0.01


async def timers(context: Context) -> float | None:
    """Enter what is due again, end what is late, and admit on for keys with room and waiters.

    Returns the seconds until a rate lets the next go, should that be sooner than the next pass.
    """
    async with context.transaction() as tx:
        due = await store.due_timers(tx)
        hungry = await store.hungry_keys(tx)
    keys = [key["id"] for key in hungry if key["due_in"] <= 0]
    admitted = 0
    if due:
        admitted = await _fire(context, due, keys)
    elif keys:
        async with context.transaction() as tx:
            admission = await store.admit(tx, context.actor, keys=keys)
        context.offer(admission)
        admitted = admission.admitted
    if keys and admitted:
        return 0.0  # What is owed may be more than one call admits, and a rate goes on.
    # Of a rate that is due and gave nothing, the clock was a rounding ahead.
    return min((max(key["due_in"], SHORTEST_SECONDS) for key in hungry if key["due_in"] != 0), default=None)


async def _fire(context: Context, due: list[Record], keys: list[int]) -> int:
    entering = [timer["execution_id"] for timer in due if timer["kind"] == "enter"]
    late = {timer["execution_id"]: timer for timer in due if timer["kind"] != "enter"}
    decisions = [
        # The queue deadline is about waiting: with the attempt as its fence it misses what was admitted meanwhile.
        store.Decision(
            id=identity, target=Status.TIMED_OUT, attempt=timer["attempt"] if timer["kind"] == "queue" else None
        )
        for identity, timer in sorted(late.items())
    ]
    async with context.transaction() as tx:
        admission = await store.admit(
            tx, context.actor, entering=entering, decisions=decisions, reason="timed_out", keys=keys
        )
        await store.forget_timers(tx, due)
    context.offer(admission)
    return admission.admitted
