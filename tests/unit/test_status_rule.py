"""What a message about a move is worth beside its row, and what becomes of a lost attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.rules.loss import MAX_LOSSES, after_loss
from executor.rules.status import Verdict, compare
from interlock.contract.status import Owner, Status, Subject, is_legal

Row = tuple[Status, int, int]
Message = tuple[Status | None, Status, int, int]
STARTED: Message = (Status.SCHEDULED, Status.RUNNING, 2, 1)
rows = st.tuples(st.sampled_from(Status), st.integers(0, 3), st.integers(1, 2))
messages = st.tuples(st.none() | st.sampled_from(Status), st.sampled_from(Status), st.integers(0, 3), st.integers(1, 2))


@pytest.mark.parametrize(
    ("row", "message", "verdict"),
    [
        ((Status.RUNNING, 2, 1), STARTED, Verdict.UNCHANGED),
        ((Status.SCHEDULED, 2, 1), STARTED, Verdict.BEHIND),
        (None, STARTED, Verdict.STALE),
        ((Status.SCHEDULED, 3, 1), STARTED, Verdict.STALE),
        ((Status.SCHEDULED, 2, 2), STARTED, Verdict.STALE),
        ((Status.RUNNING, 1, 1), STARTED, Verdict.STALE),
        ((Status.COMPLETED, 2, 1), STARTED, Verdict.STALE),
        # An executor's move is the row itself: a message cannot be ahead of it.
        ((Status.RUNNING, 2, 1), (Status.RUNNING, Status.CANCELLING, 2, 1), Verdict.STALE),
        ((Status.COMPLETED, 2, 1), (Status.COMPLETED, Status.RUNNING, 2, 1), Verdict.STALE),
    ],
)
def test_a_message_about_a_move_is_judged_by_the_row(row: Row | None, message: Message, verdict: Verdict) -> None:
    assert compare(row, message) is verdict


@given(row=rows, message=messages)
def test_only_a_legal_move_of_a_worker_in_the_same_attempt_and_epoch_is_made_again(row: Row, message: Message) -> None:
    source, target, *fence = message
    if compare(row, message) is Verdict.BEHIND:
        assert row == (source, *fence)
        assert is_legal(source, target, Owner.WORKER, Subject.LEAF)


@pytest.mark.parametrize(
    ("status", "losses", "reason", "target"),
    [
        (Status.RUNNING, 0, None, Status.REQUESTED),
        (Status.RUNNING, MAX_LOSSES - 2, None, Status.REQUESTED),
        (Status.RUNNING, MAX_LOSSES - 1, None, Status.ABANDONED),
        (Status.RUNNING, MAX_LOSSES, None, Status.ABANDONED),
        (Status.CANCELLING, 0, "by a person", Status.CANCELLED),
        (Status.CANCELLING, MAX_LOSSES, "by a person", Status.CANCELLED),
        (Status.CANCELLING, 0, None, Status.CANCELLED),
        (Status.CANCELLING, 0, "timed_out: ran longer than its run timeout", Status.TIMED_OUT),
    ],
)
def test_a_lost_attempt_is_made_again_until_too_many_were_and_a_cancel_ends_it(
    status: Status, losses: int, reason: str | None, target: Status
) -> None:
    assert after_loss(status, losses, reason) is target
