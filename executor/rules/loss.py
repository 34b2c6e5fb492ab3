"""What becomes of an execution whose worker is lost."""

from __future__ import annotations

from interlock.contract.status import Status

MAX_LOSSES = 3
TIMED_OUT = "timed_out"
"""How the reason of a cancel begins that a deadline asked for."""


def after_loss(status: Status, losses: int, cancel_reason: str | None) -> Status:
    """Again, or the end: `losses` counts earlier ones, a run may lose its worker MAX_LOSSES - 1 times and go on.

    What was being cancelled ends as its cancel says: timed out when a deadline asked for it.
    """
    if status is Status.CANCELLING:
        return Status.TIMED_OUT if (cancel_reason or "").startswith(TIMED_OUT) else Status.CANCELLED
    return Status.ABANDONED if losses + 1 >= MAX_LOSSES else Status.REQUESTED
