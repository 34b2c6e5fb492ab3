"""From a request to its end, for each kind of action: rows, logs, moves, events, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from interlock.contract import events
from tests.eventually import eventually
from tests.system.deployment import Deployment, ids_of
from tests.world import fresh_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIFE = [
    (None, "scheduled", "executor"),
    ("scheduled", "running", "worker"),
    ("running", "completed", "worker"),
]


@asynccontextmanager
async def web_server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer every request with `{"pong": true}`; give the port and the list of what was asked."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"pong": true}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def test_each_kind_of_action_is_accepted_run_and_completed_once(deployment: Deployment) -> None:
    await deployment.register("greet", command=["sh", "-c", 'echo "hello $0"; echo careful >&2', "{{ params.name }}"])
    await deployment.register("add", function="tests.system.actions:add")
    await deployment.register("multiply", function="tests.system.actions:multiply")
    completed, status = await deployment.subscribe("completions"), await deployment.subscribe("status")
    await deployment.trio(HTTP_ALLOW="127.0.0.0/8")
    async with web_server() as (port, asked):
        await deployment.register("ping", http={"url": f"http://127.0.0.1:{port}/ping/{{{{ params.to }}}}"})
        requests = [
            {"id": str(fresh_id()), "action": action, "params": params}
            for action, params in (
                ("greet", {"name": "world"}),
                ("add", {"a": 2, "b": 3}),
                ("multiply", {"a": 2, "b": 3}),
                ("ping", {"to": "me"}),
            )
        ]
        made = events.requested("/test", requests)
        await deployment.publish(*events.encode(made[:1]))
        await deployment.publish(*events.encode(made[1:]))
        greet, add, multiply, ping = ids = [event.data["id"] for event in made]
        assert await deployment.until_ended(ids) == {"completed": 4}
    results = {str(i): json.loads((await deployment.row(i))["result"]) for i in ids}
    assert results[greet] == {"exit_code": 0, "stdout": "hello world\n"}
    assert results[add] == {"sum": 5}
    assert results[multiply] == {"product": 6}
    assert results[ping]["body"] == {"pong": True}
    assert asked[0].startswith(b"GET /ping/me HTTP/1.1\r\n")
    assert f"interlock-execution: {ping}".encode() in asked[0].lower()
    for identity in ids:
        assert await deployment.moves(identity) == LIFE
        assert await deployment.attempts(identity) == [(1, "completed")]
    assert await logged(deployment, greet, 2) == {("stdout", "hello world"), ("stderr", "careful")}
    assert await logged(deployment, add, 1) == {("log", "adding 2 and 3")}
    assert await logged(deployment, multiply, 1) == {("log", "multiplying 2 and 3")}
    await deployment.until_clean()
    await eventually(lambda: len(completed) >= 4 and len(status) >= 8)
    assert set(ids_of(completed).values()) == {1}
    assert {str(i) for i in ids_of(completed)} == set(ids)
    assert {each["id"] for each in completed} == {f"{identity}/1/completed" for identity in ids}
    assert sorted((each["subject"], each["data"]["from"], each["data"]["to"]) for each in status) == sorted(
        (identity, source, target) for identity in ids for source, target, _ in LIFE[1:]
    )
    assert deployment.loud() == []
    assert await deployment.metric("executor", "interlock_repairs_total") == 0
    assert await deployment.metric("worker", "interlock_executions_total", status="completed") == 4


async def logged(deployment: Deployment, identity: str, count: int) -> set[tuple[str, str]]:
    """Return the stream and the text of an execution's log lines, once there are `count`."""

    async def lines() -> set[tuple[str, str]]:
        rows = await deployment.connection.fetch(
            "SELECT stream, line FROM execution_log WHERE execution_id = $1", identity
        )
        assert len(rows) == count, rows
        return {(row["stream"], row["line"]) for row in rows}

    return await eventually(lines)
