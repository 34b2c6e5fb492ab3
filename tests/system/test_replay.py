"""Messages that were put aside, sent again through real daemons: they arrive, do no harm twice, and do not loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from interlock.client import Client
from interlock.contract import events
from tests.eventually import eventually
from tests.world import fresh_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.system.deployment import Deployment

NOTHING = "tests.system.actions:nothing"


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    """A client of the deployment's database."""
    async with Client.connect(database_url) as client:
        yield client


async def test_a_request_that_is_sent_again_is_accepted_once_however_often(
    deployment: Deployment, client: Client
) -> None:
    await deployment.register("job", function=NOTHING)
    identity = fresh_id()
    body, _ = events.encode(events.requested("/test", [{"id": str(identity), "action": "job"}]))
    await deployment.trio()
    await deployment.publish(body, "application/json")
    [parked] = await deployment.poison(1)
    assert (parked["reason"], parked["body"]) == ("content_type", body)
    [outcome] = await client.poison.replay([parked["id"]])
    assert outcome.problem is None
    await deployment.until(identity, "completed")
    # Even if somebody forgets that it was sent again, it is the same request.
    await deployment.connection.execute("UPDATE poison_message SET replayed_at = NULL")
    await client.poison.replay([parked["id"]])

    async def handled_again() -> bool:
        return await deployment.metric("executor", "interlock_messages_total", outcome="duplicate") >= 1

    await eventually(handled_again)
    assert await deployment.connection.fetchval("SELECT count(*) FROM execution") == 1
    assert [attempt for attempt, _ in await deployment.attempts(identity)] == [1]
    assert len(await deployment.poison(1)) == 1
    await deployment.until_clean()


async def test_what_cannot_be_handled_again_is_put_aside_anew_and_goes_no_further(
    deployment: Deployment, client: Client
) -> None:
    await deployment.executors()
    told = {"specversion": "1.0", "id": "x", "source": "/test", "type": "execution.wanted", "data": {}}
    await deployment.publish(json.dumps(told).encode(), events.SINGLE)
    [first] = await deployment.poison(1)
    await client.poison.replay([first["id"]])
    _, second = await deployment.poison(2)
    assert (second["queue"], second["reason"], second["replayed_at"]) == (first["queue"], "unknown_type", None)
    assert json.loads(second["body"]) == told
    await deployment.until_clean()
    assert len(await deployment.poison(2)) == 2


async def test_an_end_that_is_told_again_comes_from_a_worker_and_releases_nothing_twice(
    deployment: Deployment, client: Client
) -> None:
    await deployment.register("job", function=NOTHING, limit=1)
    completed, status = await deployment.subscribe("completions"), await deployment.subscribe("status")
    *_, worker = await deployment.trio()
    [identity] = await deployment.submit("job")
    await deployment.until(identity, "completed")
    await deployment.until_clean()
    await eventually(lambda: len(completed) == 1 and len(status) >= 2)
    end, move = (json.dumps(heard[-1]).encode() for heard in (completed, status))
    await deployment.publish(end, None, exchange="completions", key="execution.completed.completed")
    await deployment.publish(move, None, exchange="status", key="execution.status_changed.completed.leaf")
    parked = await deployment.poison(2)
    assert {row["queue"].rpartition(".")[2] for row in parked} == {"completed", "status_changed"}
    await deployment.stop(worker)
    outcomes = await client.poison.replay([row["id"] for row in parked])
    assert [outcome.problem for outcome in outcomes] == [None, None]

    async def left() -> list[str]:
        rows = await deployment.connection.fetch("SELECT exchange FROM outbox")
        assert len(rows) == 1
        return [row["exchange"] for row in rows]

    # Only workers may say that something ended: without one the message waits.
    assert await eventually(left) == ["completions"]
    await deployment.worker()
    await deployment.until_clean()
    # A subscriber heard the end, its broken repeat and the replay, all under one id.
    await eventually(lambda: len(completed) == 3)
    assert len({each["id"] for each in completed}) == 1
    assert await deployment.connection.fetchval("SELECT active FROM queue WHERE name = 'action:job'") == 0
    assert len(await deployment.poison(2)) == 2
