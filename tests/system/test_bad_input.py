"""Bad input over AMQP: each gets its clear answer, and the good requests around it are processed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from interlock.contract import events
from tests.eventually import eventually
from tests.world import fresh_id

if TYPE_CHECKING:
    from tests.system.deployment import Deployment

NOTHING = "tests.system.actions:nothing"
SCHEMA = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}


def event(request: dict[str, Any], **fields: object) -> dict[str, Any]:
    """Return an `execution.requested` as a foreign client would write it."""
    envelope = {"specversion": "1.0", "id": "1", "source": "/test", "type": "execution.requested"}
    return {**envelope, "data": request, **fields}


def body(document: object) -> bytes:
    return json.dumps(document).encode()


async def surrounded(deployment: Deployment, *bad: dict[str, Any]) -> None:
    """Send bad events in one batch between good ones; the good ones must complete."""
    good = [str(fresh_id()), str(fresh_id())]
    batch = [
        event({"id": good[0], "action": "nothing"}),
        *bad,
        event({"id": good[1], "action": "nothing"}),
    ]
    await deployment.publish(body(batch), events.BATCH)
    assert await deployment.until_ended([UUID(identity) for identity in good]) == {"completed": 2}


async def refusal(deployment: Deployment, identity: str) -> dict[str, Any]:
    """Return the error of a request that became a failed row."""
    row = await deployment.until(UUID(identity), "failed")
    assert row["attempt"] == 0
    assert await deployment.moves(UUID(identity)) == [(None, "failed", "executor")]
    error: dict[str, Any] = json.loads(row["error"])
    return error


@pytest.fixture
async def running(deployment: Deployment) -> Deployment:
    """A deployment with two executors, a worker and two actions."""
    await deployment.register("nothing", function=NOTHING)
    await deployment.register("counted", function=NOTHING, params=SCHEMA)
    await deployment.trio()
    return deployment


async def test_a_request_that_cannot_be_accepted_becomes_a_failed_row_that_says_why(running: Deployment) -> None:
    completed = await running.subscribe("completions")
    ids = [str(fresh_id()) for _ in range(7)]
    await running.publish(body(event({"id": ids[0], "action": "counter"})), events.SINGLE)
    await surrounded(
        running,
        event({"id": ids[1], "action": "counted", "params": {"count": "three"}}),
        event({"id": ids[2], "action": "counted", "params": {"count": 3, "name": "a\0b"}}),
        event({"id": ids[3], "action": "nothing", "prioritty": 5}),
        event({"id": ids[4], "action": "nothing", "params": {"large": 10**30}}),
        event({"id": ids[5], "action": "nothing", "params": {"half": "\ud800"}}),
        event({"id": ids[6], "action": "nothing", "params": {"huge": 10**1000}}),
    )
    errors = [await refusal(running, identity) for identity in ids]
    classes = [error["class"] for error in errors]
    params, request = "invalid_params", "invalid_request"
    assert classes == ["unknown_action", params, params, request, params, params, params]
    assert "'counter' is not registered; did you mean" in errors[0]["message"]
    assert "counted" in errors[0]["message"]
    assert "params.count" in errors[1]["message"]
    assert "NUL" in errors[2]["message"]
    assert "prioritty" in errors[3]["message"]
    assert "64 bits" in errors[4]["message"]
    assert "surrogate" in errors[5]["message"]
    assert "64 bits" in errors[6]["message"]
    # A refusal is an end like any other: its event comes, from a worker.
    await eventually(lambda: set(ids) <= {each["subject"] for each in completed})
    await running.until_clean()
    assert await running.connection.fetchval("SELECT count(*) FROM poison_message") == 0


async def test_a_message_that_breaks_the_contract_is_parked_whole_under_its_reason(running: Deployment) -> None:
    good = {"id": str(fresh_id()), "action": "nothing"}
    large = body(event({**good, "params": {"text": "x" * 2 * 1024 * 1024}}))
    twice = b'{"specversion":"1.0","specversion":"1.0"}'
    wrong: list[tuple[bytes, str | None, str]] = [
        (b'{"specversion": "1.0", ', events.SINGLE, "malformed_json"),
        (b"\xff\xfe\x00", events.SINGLE, "malformed_json"),
        (body(event(good)), "application/json", "content_type"),
        (body(event(good)), None, "content_type"),
        (body(event(good, type="execution.wanted")), events.SINGLE, "unknown_type"),
        (body(event(good, type=["execution.requested"])), events.SINGLE, "unknown_type"),
        (body(event(good, specversion="2.0")), events.SINGLE, "unknown_version"),
        (large, events.SINGLE, "oversized"),
        (twice, events.SINGLE, "duplicate_names"),
        (body([]), events.BATCH, "malformed_batch"),
        (body(7), events.SINGLE, "malformed_event"),
        (b"[" * 100_000, events.BATCH, "malformed_json"),
        (body(event(good, type="worker.canary", data={"number": 1})), events.SINGLE, "wrong_queue"),
    ]
    for message, content_type, _ in wrong:
        await running.publish(message, content_type)
    await surrounded(running)
    parked = await running.poison(len(wrong))
    assert sorted(row["reason"] for row in parked) == sorted(reason for *_, reason in wrong)
    whole = {row["reason"]: row["body"] for row in parked}
    assert json.loads(whole["oversized"]) == json.loads(large)
    assert whole["duplicate_names"] == twice
    assert {row["queue"] for row in parked} == {running.topology.requests_queue.name}
    assert await running.connection.fetchval("SELECT count(*) FROM execution WHERE id = $1", UUID(good["id"])) == 0


UNUSABLE: list[dict[str, Any]] = [
    {},
    {"id": None},
    {"id": "7"},
    {"id": str(uuid4())},
    {"id": "01890000-0000-7000-8000-000000000000"},
    {"id": "ffffffff-ffff-7fff-bfff-ffffffffffff"},
    {"id": "7", "params": {"large": 10**30}},
    {"id": "7", "params": {"half": "\ud800"}},
    {"id": "7", "params": {"\ud800": 1}},
    {"id": ["\ud800"]},
    {"id": "\0"},
]


async def test_a_request_without_a_usable_id_is_parked_and_the_rest_of_its_batch_runs(running: Deployment) -> None:
    await surrounded(running, *(event({"action": "nothing", **data}) for data in UNUSABLE))
    parked = await running.poison(len(UNUSABLE))
    assert [row["reason"] for row in parked] == ["unusable_id"] * len(UNUSABLE)
    assert all("UUIDv7" in row["detail"] for row in parked)
    # What is parked can be sent again as it is: a whole event, not a part of one.
    kept = [json.loads(row["body"]) for row in parked]
    assert [each["data"].get("id") for each in kept] == [data.get("id") for data in UNUSABLE]
    assert {each["type"] for each in kept} == {"execution.requested"}


async def test_the_same_request_again_is_the_same_execution_and_other_content_a_conflict(running: Deployment) -> None:
    identity = str(fresh_id())
    first = event({"id": identity, "action": "counted", "params": {"count": 1}})
    other = event({"id": identity, "action": "counted", "params": {"count": 2}})
    await surrounded(running, first, first)
    await surrounded(running, first)
    assert await running.until_ended([UUID(identity)]) == {"completed": 1}
    await surrounded(running, first, other)
    [parked] = await running.poison(1)
    assert parked["reason"] == "conflict"
    assert identity in parked["detail"]
    assert json.loads(parked["body"])["data"]["params"] == {"count": 2}
    assert json.loads((await running.row(UUID(identity)))["params"]) == {"count": 1}
    assert await running.attempts(UUID(identity)) == [(1, "completed")]
    counted = {
        outcome: await running.metric(
            "executor", "interlock_messages_total", type="execution.requested", outcome=outcome
        )
        for outcome in ("processed", "duplicate", "poison")
    }
    assert counted == {"processed": 7, "duplicate": 3, "poison": 1}


async def test_an_idempotency_key_is_held_by_the_execution_that_took_it_first(running: Deployment) -> None:
    first, same, other = (str(fresh_id()) for _ in range(3))
    keyed = {"action": "counted", "idempotency_key": "order 7"}
    await surrounded(running, event({"id": first, **keyed, "params": {"count": 1}}))
    await surrounded(
        running,
        event({"id": same, **keyed, "params": {"count": 1}}),
        event({"id": other, **keyed, "params": {"count": 2}}),
    )
    parked = await running.poison(2)
    assert [row["reason"] for row in parked] == ["key_in_use", "key_in_use"]
    assert all(first in row["detail"] for row in parked)
    known = await running.connection.fetchval(
        "SELECT count(*) FROM execution WHERE id = ANY($1)", [UUID(same), UUID(other)]
    )
    assert known == 0


async def test_deeply_nested_parameters_are_refused_and_harm_nobody(running: Deployment) -> None:
    ids = [str(fresh_id()) for _ in range(3)]
    for identity, depth in zip(ids, (70, 300, 900), strict=True):
        nested = "[" * depth + "]" * depth
        for name in (identity, "7"):
            text = json.dumps(event({"id": name, "action": "nothing", "params": {"deep": "DEEP"}}))
            await running.publish(text.replace('"DEEP"', nested).encode(), events.SINGLE)
    await surrounded(running)
    assert "64 levels" in (await refusal(running, ids[0]))["message"]
    assert sorted(row["reason"] for row in await running.poison(5)) == ["too_deep"] * 4 + ["unusable_id"]
