"""The grace of work that was told to stop: it lasts, and it can be cut off before, while and after it does."""

from __future__ import annotations

import asyncio

import pytest

from worker.runners.grace import Grace


async def over(grace: Grace, begun: asyncio.Event) -> bool:
    """Wait for ever within a grace; whether that was what ended the waiting."""
    try:
        async with grace.granted():
            begun.set()
            await asyncio.Event().wait()
    except TimeoutError:
        return True
    return False


async def test_a_grace_that_is_cut_off_while_it_lasts_is_over_at_once() -> None:
    grace, begun = Grace(1000), asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(over(grace, begun))
        await begun.wait()
        grace.cut_off()
        grace.cut_off()
    assert waiting.result()


async def test_a_grace_that_was_cut_off_before_does_not_last() -> None:
    grace = Grace(1000)
    grace.cut_off()
    async with asyncio.timeout(30):
        assert await over(grace, asyncio.Event())


async def test_a_grace_that_is_cut_off_when_it_is_not_needed_any_more_disturbs_nobody() -> None:
    grace = Grace(1000)
    async with grace.granted():
        pass
    grace.cut_off()
    await asyncio.sleep(0)


async def test_a_grace_that_nobody_cuts_off_lasts_as_long_as_it_was_given() -> None:
    with pytest.raises(TimeoutError):
        async with Grace(0.05).granted():
            await asyncio.Event().wait()
