"""What the counts of a batch say: how it ends, and whether it stops early.

Judged on the total and at the end: a count that has not arrived yet must never look like a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.contract.status import Status

if TYPE_CHECKING:
    from interlock.contract.batches import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many partitions there are, and how many of them have ended in which way."""

    total: int
    completed: int = 0
    partial: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    abandoned: int = 0
    skipped: int = 0

    @property
    def failures(self) -> int:
        """How many went wrong, in whichever way."""
        return self.failed + self.timed_out + self.abandoned

    @property
    def processed(self) -> int:
        """How many have ended."""
        return self.completed + self.partial + self.failures + self.cancelled + self.skipped


def outcome(counts: Counts, policy: Outcome) -> Status:
    """Return how a batch ends that nobody cancelled: completed, partial or failed.

    Completed: each partition completed or was skipped. Failed: nothing came of it (none is completed or partial), or
    too few of all completed, or too many failed, by the policy. A partial partition is neither completed nor a failure,
    and so are a cancelled and a skipped one. Raises ValueError while a partition has not ended.
    """
    if counts.processed != counts.total:
        raise ValueError(f"{counts.processed} of {counts.total} partitions have ended; there is no outcome before all")
    if counts.total == 0:
        return Status.FAILED if policy.fail_on_empty else Status.COMPLETED
    if counts.completed + counts.skipped == counts.total:
        return Status.COMPLETED
    nothing = counts.completed + counts.partial == 0
    too_few = counts.completed / counts.total < policy.partial_min
    too_many = policy.max_failed is not None and counts.failures > policy.max_failed
    return Status.FAILED if nothing or too_few or too_many else Status.PARTIAL


def fails_fast(counts: Counts, fail_fast: float | None, *, sealed: bool) -> bool:
    """Whether so much has failed that the rest need not run.

    `fail_fast` is a number of failures (an integer), or a share of the total, which nobody knows before `sealed`.
    """
    if fail_fast is None:
        return False
    if isinstance(fail_fast, int):
        return counts.failures >= fail_fast
    return sealed and counts.total > 0 and counts.failures / counts.total >= fail_fast
