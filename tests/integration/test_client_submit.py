"""Submitting and cancelling through the client library, on a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from interlock.client import Client
from interlock.contract.errors import Misconfigured, Unavailable
from interlock.contract.status import Status
from tests.factory import make_action, make_execution, make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The test's own look at the database; the action `job` is registered."""
    connection = await asyncpg.connect(database_url)
    await make_action(connection, params={"type": "object", "properties": {"n": {"type": "integer"}}})
    yield connection
    await connection.close()


@pytest.fixture
async def client(database_url: str, connection: asyncpg.Connection) -> AsyncIterator[Client]:
    """A connected client."""
    del connection
    async with Client.connect(database_url) as client:
        yield client


async def test_requests_get_ids_and_are_answered_in_their_order_over_several_transactions(
    client: Client, connection: asyncpg.Connection
) -> None:
    answers = await client.submit([{"action": "job", "params": {"n": n}} for n in range(501)])

    assert [answer.data["params"]["n"] for answer in answers] == list(range(501))
    assert all(answer.accepted and answer.error is None for answer in answers)
    rows = await connection.fetch("SELECT id, (params ->> 'n')::int AS n FROM execution ORDER BY n")
    assert [row["id"] for row in rows] == [answer.id for answer in answers]


async def test_a_repeat_is_answered_by_the_execution_that_stands_and_other_content_is_a_conflict(
    client: Client,
) -> None:
    request = {"id": str(uuid7()), "action": "job", "params": {"n": 1}}
    first, again = await client.submit([request, request])
    (later,) = await client.submit([request])
    (other,) = await client.submit([request | {"params": {"n": 2}}])

    assert (first.accepted, again.accepted, later.accepted, other.accepted) == (True, False, False, False)
    assert first.id == again.existing == later.existing
    assert later.error is None
    assert other.error is not None
    assert other.error.reason == "conflict"


async def test_an_idempotency_key_leads_to_the_first_execution(client: Client) -> None:
    (first,) = await client.submit([{"action": "job", "idempotency_key": "k"}])
    (again,) = await client.submit([{"action": "job", "idempotency_key": "k"}])
    assert again.existing == first.id
    assert again.error is None


async def test_what_cannot_be_accepted_is_a_failed_row_with_the_reason_and_harms_no_other(client: Client) -> None:
    unknown, wrong, good = await client.submit(
        [{"action": "jop"}, {"action": "job", "params": {"n": "x"}}, {"action": "job"}]
    )
    assert unknown.id is not None
    assert wrong.id is not None
    assert good.refused is None
    found = await client.get_many([unknown.id, wrong.id])
    assert [each.status for each in found.values()] == [Status.FAILED, Status.FAILED]
    assert [each.error["class"] for each in found.values() if each.error] == ["unknown_action", "invalid_params"]


async def test_no_relay_has_to_wait_for_the_claim_of_a_client_that_cannot_publish(
    client: Client, connection: asyncpg.Connection
) -> None:
    await make_worker(connection)
    (answer,) = await client.submit([{"action": "job"}])
    assert answer.id is not None
    await client.cancel([answer.id])
    rows = await connection.fetch("SELECT role, exchange, claimed_until FROM outbox")
    assert {row["exchange"] for row in rows} == {"dispatch", "status", "completions", "relay"}
    assert [row["claimed_until"] for row in rows] == [None] * len(rows)


async def test_a_call_goes_on_when_the_server_drops_the_connections(
    client: Client, connection: asyncpg.Connection
) -> None:
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'interlock-client'"
    await connection.fetch(f"{drop} AND datname = current_database()")
    (answer,) = await client.submit([{"action": "job"}])
    assert answer.accepted


async def test_a_cancel_ends_what_waits_tells_what_runs_and_leaves_what_ended(
    client: Client, connection: asyncpg.Connection
) -> None:
    (answer,) = await client.submit([{"action": "job"}])
    assert answer.id is not None
    running = await make_execution(connection, status=Status.RUNNING)
    ended = await make_execution(connection, status=Status.COMPLETED)

    outcomes = await client.cancel([ended, answer.id, running], "no longer needed")

    assert [(each.id, each.status, each.moved) for each in outcomes] == [
        (ended, Status.COMPLETED, False),
        (answer.id, Status.CANCELLED, True),
        (running, Status.CANCELLING, True),
    ]
    assert (await client.transitions(answer.id))[-1].reason == "no longer needed"
    assert (await client.get(running)).cancel_reason == "no longer needed"
    assert [each.moved for each in await client.cancel([answer.id, running])] == [False, False]


async def test_a_cancel_before_its_request_is_remembered(client: Client) -> None:
    identity = uuid7()
    (outcome,) = await client.cancel([identity], "never mind")
    assert (outcome.status, outcome.moved) == (None, False)
    await client.submit([{"id": str(identity), "action": "job"}])
    found = await client.get(identity)
    assert (found.status, found.cancel_reason) == (Status.CANCELLED, "never mind")


async def test_a_database_without_schema_is_refused_with_what_to_do(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("DROP TABLE migration")
    with pytest.raises(Misconfigured, match="run `interlock migrate` first"):
        async with Client.connect(database_url):
            pass


async def test_a_database_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(Unavailable, match=r"^PostgreSQL at 127\.0\.0\.1:1/nowhere cannot be reached") as raised:
        async with Client.connect("postgresql://someone:secret@127.0.0.1:1/nowhere"):
            pass
    assert "secret" not in str(raised.value)
