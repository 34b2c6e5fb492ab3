"""What a completion is worth beside its row: released once, counted always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.rules.completion import End, News, judge
from interlock.contract.status import TERMINAL, Status

HOLDS = {"holds": True, "limited": True}
RELEASED = {"holds": False, "limited": True}
UNLIMITED = {"holds": False, "limited": False}
DONE = End(Status.COMPLETED, 2, 1)
ends = st.builds(End, st.sampled_from(Status), st.integers(0, 3), st.integers(1, 3))


@pytest.mark.parametrize(
    ("row", "slots", "news"),
    [
        (DONE, HOLDS, News.PROCESSED),
        (DONE, UNLIMITED, News.PROCESSED),
        (DONE, RELEASED, News.DUPLICATE),
        (None, UNLIMITED, News.FORGED),
        (End(Status.RUNNING, 2, 1), HOLDS, News.FORGED),
        (End(Status.FAILED, 2, 1), HOLDS, News.FORGED),
        (End(Status.SCHEDULED, 1, 1), HOLDS, News.FORGED),
        (End(Status.RUNNING, 3, 1), HOLDS, News.STALE),
        (End(Status.RUNNING, 0, 2), HOLDS, News.STALE),
        (End(Status.REQUESTED, 2, 1), RELEASED, News.FORGED),
    ],
)
def test_a_completion_is_judged_by_the_row(row: End | None, slots: dict[str, bool], news: News) -> None:
    assert judge(row, DONE, **slots) is news


@given(row=st.none() | ends, told=ends, slots=st.sampled_from((HOLDS, RELEASED, UNLIMITED)))
def test_nothing_is_released_for_what_the_row_does_not_say(row: End | None, told: End, slots: dict[str, bool]) -> None:
    if judge(row, told, **slots) is News.PROCESSED:
        assert row == told
        assert told.status in TERMINAL
