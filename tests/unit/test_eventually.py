"""The poll that all other tests wait with."""

from __future__ import annotations

import pytest

from tests.eventually import eventually


async def test_it_returns_the_first_true_value() -> None:
    answers = iter([None, 0, "", "there"])
    assert await eventually(lambda: next(answers)) == "there"


async def test_it_awaits_and_outlives_failed_assertions() -> None:
    left = [1, 2]

    async def empty() -> bool:
        assert not left, left.pop()
        return True

    assert await eventually(empty)


async def test_it_raises_the_last_failed_assertion() -> None:
    def never() -> bool:
        pytest.fail("not yet")

    with pytest.raises(pytest.fail.Exception, match="not yet"):
        await eventually(never, timeout=0.05)


async def test_it_says_what_it_last_saw() -> None:
    with pytest.raises(AssertionError, match=r"still \[\] after 0.05 s"):
        await eventually(list, timeout=0.05)
