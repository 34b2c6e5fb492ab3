"""What a completion is worth beside its row: released once, counted always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.rules.completion import End, News, judge
from interlock.contract.status import TERMINAL, Status

DONE = End(Status.COMPLETED, 2, 1)
ends = st.builds(End, st.sampled_from(Status), st.integers(0, 3), st.integers(1, 3))


@pytest.mark.parametrize(
    ("row", "holds", "limited", "news"),
    [
        (DONE, True, True, News.PROCESSED),
        (DONE, False, False, News.PROCESSED),
        (DONE, False, True, News.DUPLICATE),
        (None, False, False, News.FORGED),
        (End(Status.RUNNING, 2, 1), True, True, News.FORGED),
        (End(Status.FAILED, 2, 1), True, True, News.FORGED),
        (End(Status.SCHEDULED, 1, 1), True, True, News.FORGED),
        (End(Status.RUNNING, 3, 1), True, True, News.STALE),
        (End(Status.RUNNING, 0, 2), True, True, News.STALE),
        (End(Status.REQUESTED, 2, 1), False, True, News.FORGED),
    ],
)
def test_a_completion_is_judged_by_the_row(row: End | None, holds: bool, limited: bool, news: News) -> None:
    assert judge(row, DONE, holds=holds, limited=limited) is news


@given(row=st.none() | ends, told=ends, holds=st.booleans(), limited=st.booleans())
def test_nothing_is_released_for_what_the_row_does_not_say(
    row: End | None, told: End, holds: bool, limited: bool
) -> None:
    if judge(row, told, holds=holds, limited=limited) is News.PROCESSED:
        assert row == told
        assert told.status in TERMINAL
