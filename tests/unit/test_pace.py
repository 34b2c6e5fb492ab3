"""How much a step of a planning takes on: what this machine commits in a tenth of a second."""

from __future__ import annotations

import pytest

from worker.planning import CHUNK, FIRST, LEAST, STEP_SECONDS, Pace


@pytest.mark.parametrize(
    ("seconds", "items"),
    [
        (STEP_SECONDS, FIRST),
        (2 * STEP_SECONDS, FIRST // 2),
        (STEP_SECONDS / 2, 2 * FIRST),
        (100 * STEP_SECONDS, LEAST),
        (STEP_SECONDS / 100, CHUNK),
    ],
)
def test_a_step_is_followed_by_one_that_lasts_as_long_as_it_may(seconds: float, items: int) -> None:
    pace = Pace()
    pace.took(seconds, FIRST)
    assert pace.items == items


def test_the_rest_of_a_plan_tells_nothing_about_the_machine() -> None:
    pace = Pace()
    pace.took(STEP_SECONDS, FIRST - 1)
    assert pace.items == FIRST
