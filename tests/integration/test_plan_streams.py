"""A planner that is a generator: what it yields is the plan, taken as it comes; with one broken item, nothing is."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from interlock.acceptance.catalog import Catalog
from interlock.contract.status import Status
from tests import running
from tests.attempts import finish
from tests.batches import counts, drives, status
from tests.eventually import eventually
from tests.integration.test_planning import Stage, Stopped, stage, stops_behind
from tests.world import fresh_id
from worker import planning
from worker.holdings import Holding
from worker.plans import PlanFailed
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from interlock.results import Context
    from tests.world import World
    from worker.execute import Runners
    from worker.outcome import Outcome

CHUNK = 10
HERE = __name__
closed: list[str] = []
"""The names of generators that were closed."""
begun = threading.Event()
outside: list[int] = []


class Row(dict[str, int]):
    """An item that counts how many of its kind there are."""

    alive = most = 0

    def __init__(self, number: int) -> None:
        super().__init__(n=number)
        Row.alive += 1
        Row.most = max(Row.most, Row.alive)

    def __del__(self) -> None:
        Row.alive -= 1


def rows(last: int, context: Context) -> Iterator[object]:
    context.log("looking around")
    thread = threading.get_ident()
    for number in range(last):
        assert threading.get_ident() == thread
        yield Row(number)


async def rows_async(last: int) -> AsyncIterator[object]:
    for number in range(last):
        yield Row(number)


def expression(last: int) -> Iterator[object]:
    """A generator whose first steps are made by the call already."""
    thread = threading.get_ident()
    return (Row(number) for number in range(last) if threading.get_ident() == thread)


def broken(last: int) -> Iterator[object]:
    try:
        for number in range(last):
            yield {"n": {number}} if number == last - 1 else {"n": number}
    finally:
        closed.append("broken")


async def broken_async(last: int) -> AsyncIterator[object]:
    try:
        for number in range(last):
            yield {"n": float("nan") if number == last - 1 else number}
    finally:
        closed.append("broken_async")


def fails(last: int) -> Iterator[object]:
    yield from ({"n": number} for number in range(last))
    raise LookupError("no such table")


async def fails_async(last: int) -> AsyncIterator[object]:
    for number in range(last):
        yield {"n": number}
    raise LookupError("no such table")


def repeats(last: int) -> Iterator[object]:
    yield from ({"n": number} for number in (*range(last), 1))


def endless(last: int) -> Iterator[object]:
    begun.set()
    try:
        while True:
            yield {"n": last}
    finally:
        closed.append("endless")


async def endless_async(last: int) -> AsyncIterator[object]:
    begun.set()
    try:
        while True:
            yield {"n": last}
    finally:
        closed.append("endless_async")


def remembered(last: int) -> Iterator[object]:
    """Items that are read from outside, which may have changed."""
    yield from ({"n": number} for number in (*outside, *range(len(outside), last)))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", CHUNK)
    for each in (closed, outside, begun):
        each.clear()


@pytest.fixture
async def runners() -> AsyncIterator[Runners]:
    """What a worker runs the functions of this module with."""
    async with running.runners(HERE) as made:
        yield made


class Streamed:
    """A batch that a function of this module plans."""

    def __init__(self, it: Stage, runners: Runners) -> None:
        self._it = it
        self._runners = runners

    async def run(self, attempt: int = 1) -> Outcome:
        holding = Holding(id=self._it.plan, attempt=attempt, started_at=datetime.now(UTC))
        return await self._it.planner.run(holding, LogSink(self._it.logged.append), self._runners.run)

    async def fails(self) -> tuple[str, str]:
        """Plan, in vain; return the class and the message of the failure. Nothing is planned of it."""
        with pytest.raises(PlanFailed) as raised:
            await self.run()
        assert await self._it.keys() == []
        failure = raised.value.outcome.failure
        assert failure is not None
        return failure.error_class, failure.message


@asynccontextmanager
async def planned_by(world: World, runners: Runners, function: str, last: int) -> AsyncIterator[tuple[Stage, Streamed]]:
    await world.register("lister", command=None, function=f"{HERE}:{function}")
    partition = {"action": "lister", "params": {"last": last}}
    async with stage(world, partition, key="{{ item.n }}") as it:
        yield it, Streamed(it, runners)


@pytest.mark.parametrize("function", ["rows", "rows_async", "expression"])
@pytest.mark.parametrize("total", [0, CHUNK, 35])
async def test_what_a_generator_yields_is_the_plan_and_no_more_of_it_is_held_than_one_item(
    world: World, runners: Runners, function: str, total: int
) -> None:
    Row.alive = Row.most = 0
    async with planned_by(world, runners, function, total) as (it, planner):
        outcome = await planner.run()
        assert (outcome.status, outcome.result) == (Status.COMPLETED, {"partitions": total})
        assert await it.keys() == [str(n) for n in range(total)]
        assert await finish(world, it.plan, "completed") == "completed"
        assert await counts(world, it.batch) == ({"total": total} if total else {})
        await drives(world, it.batch)
        assert await status(world, it.batch) == ("running" if total else "completed")
        assert [entry.line for entry in it.logged] == (["looking around"] if function == "rows" else [])
    # The one that is being made while the one before is in the hand of the loop.
    assert Row.most <= 2


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("broken", "item 35 of the plan: the item is not a JSON value: Type is not JSON serializable: set"),
        ("broken_async", "item 35 of the plan: item.n is NaN or infinite, which JSON cannot say"),
    ],
)
async def test_a_broken_item_is_named_by_its_number_and_leaves_nothing_planned(
    world: World, runners: Runners, function: str, told: str
) -> None:
    async with planned_by(world, runners, function, 35) as (_, planner):
        error_class, message = await planner.fails()
    assert error_class == "PlanUnreadable"
    assert message.startswith(told)
    assert closed == [function]


@pytest.mark.parametrize("function", ["fails", "fails_async"])
async def test_a_generator_that_fails_half_way_fails_the_plan_as_it_failed(
    world: World, runners: Runners, function: str
) -> None:
    async with planned_by(world, runners, function, 35) as (_, planner):
        assert await planner.fails() == ("LookupError", "no such table")


async def test_a_key_that_is_yielded_twice_is_named(world: World, runners: Runners) -> None:
    async with planned_by(world, runners, "repeats", 3) as (it, planner):
        outcome = await planner.run()
        assert outcome.failure is not None
        assert outcome.failure.error_class == "DuplicatePartition"
        assert "'1'" in outcome.failure.message
        assert await it.keys() == []


@pytest.mark.parametrize("changed", [False, True])
async def test_another_attempt_goes_on_where_the_first_stopped_and_must_find_the_same(
    world: World, runners: Runners, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    async with planned_by(world, runners, "remembered", 35) as (it, planner):
        await stops_behind(monkeypatch, chunks=2)
        with pytest.raises(Stopped):
            await planner.run()
        assert len(await it.keys()) == 2 * CHUNK
        monkeypatch.undo()
        await it.again()
        outside.extend([0, 99] if changed else [])
        outcome = await planner.run(attempt=2)
        if changed:
            assert outcome.failure is not None
            assert outcome.failure.error_class == "PlanChanged"
        else:
            assert outcome.result == {"partitions": 35}
        assert await it.keys() == [str(n) for n in range(2 * CHUNK if changed else 35)]


@pytest.mark.parametrize("function", ["endless", "endless_async"])
async def test_a_generator_that_does_not_end_is_stopped_between_two_items(
    world: World, runners: Runners, function: str
) -> None:
    async with planned_by(world, runners, function, 0) as (it, planner):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(planner.run())
            await eventually(begun.is_set)
            task.cancel()
        assert task.cancelled()
        assert await it.keys() == []
    assert closed == [function]


@pytest.mark.parametrize("function", ["rows", "rows_async"])
async def test_a_generator_is_no_result_of_an_action_that_plans_nothing(
    world: World, runners: Runners, function: str
) -> None:
    await world.register("lister", command=None, function=f"{HERE}:{function}")
    entry = await Catalog().runnable(world.tx, "lister")
    holding = Holding(id=fresh_id(), attempt=1, started_at=datetime.now(UTC))
    outcome = await runners.run(entry, {"last": 3}, holding, LogSink(lambda _entry: None))
    assert outcome.failure is not None
    assert outcome.failure.error_class == "ResultNotJson"
    kind = "async_generator" if function == "rows_async" else "generator"
    assert outcome.failure.message.startswith(f"the result is not a JSON value: Type is not JSON serializable: {kind}.")
