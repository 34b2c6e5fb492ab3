"""Looking at executions through the client library, and waiting for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from interlock.client.ids import AmbiguousId, UnknownId
from interlock.contract.status import Status
from tests.factory import PATHS, end_execution, make_execution

if TYPE_CHECKING:
    import asyncpg

    from interlock.client import Client

ONE = UUID("0192b0a0-0000-7000-8000-0000cafe0001")
TWO = UUID("0192b0a0-0001-7000-8000-0000cafe0002")


@pytest.mark.parametrize("text", [str(ONE), "0192b0a0-0000", "0192b0a00000", "CAFE0001", "0000cafe0001", "0001"])
async def test_an_id_is_found_by_any_unique_beginning_or_end(
    client: Client, connection: asyncpg.Connection, text: str
) -> None:
    for identity in (ONE, TWO):
        await make_execution(connection, identity=identity)
    assert await client.find(text) == ONE


async def test_an_ambiguous_id_names_its_candidates_and_an_unknown_one_says_so(
    client: Client, connection: asyncpg.Connection
) -> None:
    for identity in (ONE, TWO):
        await make_execution(connection, identity=identity)
    with pytest.raises(AmbiguousId, match=f"may be {TWO}, {ONE}: give more of the id") as raised:
        await client.find("0192")
    assert raised.value.candidates == (TWO, ONE)
    with pytest.raises(UnknownId, match="no execution has an id that begins or ends with 'beef'"):
        await client.find("beef")
    for text in ("123", "tomorrow", "0" * 33):
        with pytest.raises(UnknownId, match="is not an id"):
            await client.find(text)


async def test_a_beginning_and_another_ones_end_are_ambiguous(client: Client, connection: asyncpg.Connection) -> None:
    for identity in (ONE, UUID("0192b0a0-0002-7000-8000-00000192b0a0")):
        await make_execution(connection, identity=identity)
    with pytest.raises(AmbiguousId):
        await client.find("0192b0a0")


async def test_every_field_of_an_execution_is_read(client: Client, connection: asyncpg.Connection) -> None:
    identity = await make_execution(
        connection, status=Status.COMPLETED, params={"n": 1}, result=[1, "a"], tags=("x", "y"), priority=5
    )
    found = await client.get(identity)
    assert (found.id, found.status, found.action, found.attempt) == (identity, Status.COMPLETED, "job", 1)
    assert (found.params, found.result, found.tags, found.priority) == ({"n": 1}, [1, "a"], ("x", "y"), 5)
    assert (found.error, found.moves, found.root_id) == (None, 4, identity)
    (attempt,) = await client.attempts(identity)
    assert (attempt.attempt, attempt.outcome, attempt.worker_id) == (1, "completed", found.worker_id)
    with pytest.raises(UnknownId, match=f"no execution {ONE}"):
        await client.get(ONE)


async def test_moves_are_read_from_any_number_on(client: Client, connection: asyncpg.Connection) -> None:
    identity = await make_execution(connection, status=Status.FAILED)
    moves = await client.transitions(identity)
    assert [(move.source, move.target) for move in moves] == [
        (None, Status.REQUESTED),
        (Status.REQUESTED, Status.SCHEDULED),
        (Status.SCHEDULED, Status.RUNNING),
        (Status.RUNNING, Status.FAILED),
    ]
    assert await client.transitions(identity, after=3) == moves[3:]


async def test_a_list_is_filtered_and_paged_newest_first(client: Client, connection: asyncpg.Connection) -> None:
    ids = [
        await make_execution(connection, status=status, action=action, tags=(str(status),))
        for status in (Status.FAILED, Status.RUNNING, Status.COMPLETED)
        for action in ("one", "two")
    ]
    first = await client.list(limit=4)
    second = await client.list(limit=4, cursor=first.cursor)
    assert [each.id for each in (*first.items, *second.items)] == ids[::-1]
    assert (len(first.items), second.cursor) == (4, None)
    assert [e.id for e in (await client.list(action="one", status=[Status.FAILED, Status.RUNNING])).items] == [
        ids[2],
        ids[0],
    ]
    assert [each.id for each in (await client.list(tag="completed")).items] == [ids[5], ids[4]]


async def test_log_lines_are_read_from_any_place_on(client: Client, connection: asyncpg.Connection) -> None:
    identity = await make_execution(connection, status=Status.RUNNING)
    await connection.executemany(
        "INSERT INTO execution_log VALUES ($1, $2, $3, 'stdout', $4, now())",
        [(identity, attempt, number, f"{attempt}/{number}") for attempt in (1, 2) for number in (1, 2)],
    )
    assert [line.line for line in await client.logs(identity)] == ["1/1", "1/2", "2/1", "2/2"]
    assert [line.line for line in await client.logs(identity, after=(1, 2), limit=1)] == ["2/1"]


async def test_counts_are_by_status(client: Client, connection: asyncpg.Connection) -> None:
    ids = [await make_execution(connection, status=status) for status in PATHS]
    ids.append(await make_execution(connection, status=Status.RUNNING))
    assert await client.counts(ids) == Counter({**dict.fromkeys(PATHS, 1), Status.RUNNING: 2})
    assert await client.counts([]) == Counter()


async def test_waiting_ends_with_the_last_one_and_tells_the_way(client: Client, connection: asyncpg.Connection) -> None:
    ids = [await make_execution(connection, status=Status.SCHEDULED) for _ in range(2)]
    ids.append(await make_execution(connection, status=Status.CANCELLED))
    told: list[Counter[Status]] = []
    looked = asyncio.Event()

    def on_progress(counts: Counter[Status]) -> None:
        told.append(counts)
        looked.set()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = group.create_task(client.wait(ids, on_progress))
        await looked.wait()
        await end_execution(connection, ids[0])
        await end_execution(connection, ids[1], Status.FAILED)
    ends = Counter({Status.COMPLETED: 1, Status.FAILED: 1, Status.CANCELLED: 1})
    assert told[0] == Counter({Status.SCHEDULED: 2, Status.CANCELLED: 1})
    assert waiting.result() == told[-1] == ends


async def test_waiting_for_nothing_ends_at_once_and_for_what_is_not_there_fails(client: Client) -> None:
    assert await client.wait([]) == Counter()
    with pytest.raises(UnknownId, match="1 of 1 executions to wait for do not exist"):
        await client.wait([ONE])
