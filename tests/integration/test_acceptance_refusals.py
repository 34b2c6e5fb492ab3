"""What cannot be accepted: a failed row that says why where the id is usable, an answer where it is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.world import request

if TYPE_CHECKING:
    from tests.world import World


async def refused_row(world: World, identity: str) -> dict[str, Any]:
    """Return a row with its error read."""
    found = await world.tx.fetchrow("SELECT *, status::text AS state FROM execution WHERE id = $1", UUID(identity))
    assert found is not None
    return {**found, "error": json.loads(found["error"])}


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"action": "jab"}, "unknown_action", 'did you mean "job"?'),
        ({"action": "nul\0"}, "invalid_request", "action"),
        ({"action": "half\ud800"}, "invalid_request", "action"),
        ({"action": 7}, "invalid_request", "action"),
        ({"action": ["job"]}, "invalid_request", "action"),
        ({"params": {"count": "three"}}, "invalid_params", "count"),
        ({"params": {"count": 1, "text": "a\0b"}}, "invalid_params", "NUL"),
        ({"params": {"count": 2**80}}, "invalid_params", "64 bits"),
        ({"params": {"count": 1e999}}, "invalid_params", "finite"),
        ({"params": []}, "invalid_request", "params"),
        ({"parms": {}}, "invalid_request", "parms"),
        ({"priority": 101}, "invalid_request", "priority"),
        ({"priority": "high"}, "invalid_request", "priority"),
        ({"not_before": "soon"}, "invalid_request", "not_before"),
        ({"deadline": "2030-01-01T00:00:00"}, "invalid_request", "deadline"),
        ({"pool": "relay"}, "invalid_request", "reserved"),
        ({"tags": ["x"] * 51}, "invalid_request", "tags"),
        ({"idempotency_key": ""}, "invalid_request", "idempotency_key"),
        ({"concurrency_key": "a\0"}, "invalid_request", "concurrency_key"),
    ],
)
async def test_what_cannot_be_accepted_is_a_failed_row_that_says_why(
    world: World, fields: dict[str, Any], code: str, told: str
) -> None:
    schema = {"properties": {"count": {"type": "integer"}}}
    await world.tx.execute("DELETE FROM action")
    await world.register(params=schema)
    data = request() | fields
    beside = request()
    answer, neighbour = (await world.accept(data, beside)).answers
    assert (answer.accepted, answer.error) == (True, None)
    assert answer.refused is not None
    found = await refused_row(world, data["id"])
    assert (found["state"], found["error"]["class"], found["attempt"]) == ("failed", code, 0)
    assert told in found["error"]["message"]
    assert found["finished_at"] is not None
    assert neighbour.refused is None
    assert await world.statuses([UUID(beside["id"])]) == ["scheduled"]


async def test_a_withdrawn_action_is_refused(world: World) -> None:
    await world.tx.execute("UPDATE action SET withdrawn_at = now()")
    data = request()
    await world.accept(data)
    assert (await refused_row(world, data["id"]))["error"]["message"] == (
        "action 'job' was withdrawn; `interlock actions list` shows what is"
    )


@pytest.mark.parametrize(
    "identity",
    [
        None,
        "",
        "no",
        7,
        ["x"],
        "1448eb06-1741-4c98-9aff-799854fcb9e5",
        "00000000-0000-7000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
async def test_without_a_usable_id_there_is_no_row_and_the_others_are_accepted(world: World, identity: object) -> None:
    beside = request()
    bad, good = (await world.accept({"id": identity, "action": "job"}, beside)).answers
    assert (bad.accepted, bad.id) == (False, None)
    assert bad.error is not None
    assert bad.error.reason == "unusable_id"
    assert good.accepted
    assert await world.tx.fetchval("SELECT count(*) FROM execution") == 1
