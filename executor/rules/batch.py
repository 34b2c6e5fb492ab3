"""What is to be done about a batch, by where it and its partitions stand.

Law 5. Handling twice equals handling once: asked again, the answer is the same, and what is done already is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from executor.rules.loss import TIMED_OUT
from executor.rules.partition import fails_fast, outcome
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from uuid import UUID

    from executor.rules.partition import Counts
    from interlock.contract.batches import Batch

FAILED: Final = "failed: "
"""How it begins when the batch gave up by itself."""


class Deed(StrEnum):
    """What to do."""

    REST = "rest"
    GIVE_UP = "give_up"
    CANCEL_OPEN = "cancel_open"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One open batch: its status, the reason of its cancel, its counts, and its planning (`plan`: None without one)."""

    id: UUID
    epoch: int
    status: Status
    reason: str | None
    counts: Counts
    sealed: bool
    planned: bool
    plan: Status | None
    plan_error: str | None
    drains: bool
    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do; `target` is the end of what ends, `reason` why."""

    deed: Deed
    target: Status | None = None
    reason: str | None = None


def next_step(standing: Standing) -> Step:
    """Judge a batch. It ends on its total, when no partition can come any more and none is open; never before."""
    plan_over = standing.plan is None or standing.plan in TERMINAL
    all_in = standing.counts.processed == standing.counts.total and plan_over
    if standing.status is Status.CANCELLING:
        return _end_of_cancel(standing) if all_in else Step(deed=Deed.CANCEL_OPEN)
    if not standing.planned and standing.plan in TERMINAL:
        why = standing.plan_error or f"it is {standing.plan}"
        return Step(deed=Deed.GIVE_UP, reason=f"{FAILED}planning failed: {why}")
    if standing.sealed and all_in:
        return Step(deed=Deed.END, target=outcome(standing.counts, standing.batch.outcome))
    if fails_fast(standing.counts, standing.batch.fail_fast, sealed=standing.sealed):
        return Step(deed=Deed.GIVE_UP, reason=f"{FAILED}fail_fast: {standing.counts.failures} partitions failed")
    return Step(deed=Deed.REST)


def _end_of_cancel(standing: Standing) -> Step:
    """What had all finished before the cancel reached it stays what it is; else the reason of the cancel decides."""
    if standing.sealed and standing.counts.cancelled == 0:
        return Step(deed=Deed.END, target=outcome(standing.counts, standing.batch.outcome))
    reason = standing.reason or ""
    target = Status.CANCELLED
    if reason.startswith(TIMED_OUT):
        target = Status.TIMED_OUT
    elif reason.startswith(FAILED):
        target = Status.FAILED
    return Step(deed=Deed.END, target=target, reason=reason)
