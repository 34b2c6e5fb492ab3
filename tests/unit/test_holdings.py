"""What a worker holds: by attempt, told to stop once, and never more than it has room for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest

from worker.holdings import Holding, Holdings
from worker.runners.grace import Grace

ONE, OTHER = UUID(int=1), UUID(int=2)


def holding(identity: UUID = ONE, attempt: int = 1) -> Holding:
    return Holding(id=identity, attempt=attempt, started_at=datetime.now(UTC))


async def is_waiting(task: asyncio.Task[None]) -> bool:
    """Let everything run that can, then say whether the task still waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    return not task.done()


def test_the_end_of_a_former_attempt_does_not_forget_the_one_that_is_held() -> None:
    holdings = Holdings(2)
    holdings.add(holding(attempt=2))
    holdings.remove(ONE, 1)
    holdings.remove(OTHER, 2)
    assert (ONE in holdings, len(holdings), holdings.pairs()) == (True, 1, [(ONE, 2)])
    holdings.remove(ONE, 2)
    assert (ONE in holdings, len(holdings), holdings.pairs()) == (False, 0, [])


def test_a_word_to_stop_that_is_about_another_attempt_is_not_for_this_one() -> None:
    holdings, held = Holdings(1), holding(attempt=2)
    holdings.add(held)
    holdings.end(ONE, "cancelled", 1)
    holdings.end(OTHER, "cancelled")
    assert held.ending is None
    holdings.end(ONE, "cancelled", 2)
    assert held.ending == "cancelled"


async def test_a_second_word_to_stop_does_not_cut_short_what_the_first_one_granted() -> None:
    holdings, held = Holdings(1), holding()
    let_go = asyncio.Event()
    cancelled = 0

    async def run() -> None:
        nonlocal cancelled
        held.task = asyncio.current_task()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                cancelled += 1

    holdings.add(held)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        assert await is_waiting(task)
        holdings.end(ONE, "cancelled")
        assert await is_waiting(task)
        holdings.end(ONE, "gone")
        holdings.end_all("handed_back")
        assert await is_waiting(task)
        let_go.set()
    assert (cancelled, held.ending) == (1, "cancelled")


async def test_a_forced_end_cuts_the_grace_off_and_cancels_once() -> None:
    holdings, held = Holdings(1), holding()
    held.grace = Grace(1000)
    cancelled = 0

    async def run() -> None:
        nonlocal cancelled
        held.task = asyncio.current_task()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            with suppress(TimeoutError):
                async with held.grace.granted():
                    await asyncio.Event().wait()

    holdings.add(held)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(run())
        assert await is_waiting(task)
        holdings.end(ONE, "cancelled")
        assert await is_waiting(task)
        holdings.force(ONE, 2)
        holdings.force(OTHER)
        assert await is_waiting(task)
        holdings.force(ONE, 1)
    assert (cancelled, held.ending) == (1, "cancelled")


def test_what_is_forced_at_once_is_told_to_stop_and_has_no_grace_to_begin_with() -> None:
    holdings, held = Holdings(1), holding()
    held.grace = Grace(1000)
    holdings.add(held)
    holdings.force(ONE)
    assert (held.ending, held.grace.seconds) == ("cancelled", 0)


async def test_who_waits_for_room_goes_when_there_is_some() -> None:
    holdings = Holdings(2)
    for identity in (ONE, OTHER):
        await holdings.room()
        holdings.add(holding(identity))
    assert holdings.free == 0
    async with asyncio.TaskGroup() as group:
        room, empty = group.create_task(holdings.room()), group.create_task(holdings.empty())
        assert await is_waiting(room)
        holdings.remove(ONE, 1)
        assert not await is_waiting(room)
        assert await is_waiting(empty)
        holdings.remove(OTHER, 1)
    assert empty.done()


async def test_a_claim_is_under_way_until_its_result_is_entered() -> None:
    holdings = Holdings(1)
    async with asyncio.TaskGroup() as group:
        with holdings.claim():
            claimed = group.create_task(holdings.claimed())
            assert await is_waiting(claimed)
            assert holdings.claiming
        assert not holdings.claiming
    assert claimed.done()


def test_a_claim_that_failed_is_not_under_way_any_more() -> None:
    holdings = Holdings(1)
    with pytest.raises(LookupError), holdings.claim():
        raise LookupError
    assert not holdings.claiming
