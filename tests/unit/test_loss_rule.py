"""What becomes of an execution whose worker is lost."""

from __future__ import annotations

import pytest

from executor.loops.timers import DEADLINES
from executor.rules.loss import MAX_LOSSES, after_loss
from interlock.contract.status import Status


def test_a_loss_is_made_up_for_until_the_last_one() -> None:
    ends = [after_loss(Status.RUNNING, losses, None) for losses in range(MAX_LOSSES)]
    assert ends == [Status.REQUESTED, Status.REQUESTED, Status.ABANDONED]


@pytest.mark.parametrize("losses", [0, MAX_LOSSES])
def test_what_was_being_cancelled_ends_as_its_cancel_says(losses: int) -> None:
    assert after_loss(Status.CANCELLING, losses, "not wanted") is Status.CANCELLED
    for deadline in DEADLINES.values():
        assert after_loss(Status.CANCELLING, losses, deadline.reason) is Status.TIMED_OUT
