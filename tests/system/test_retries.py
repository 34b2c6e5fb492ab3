"""Retries and deadlines on real daemons: who gets another attempt and when, and what stops what runs too long."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from tests.system.deployment import Deployment
    from tests.system.gate import Gate

FUNCTIONS = "tests.system.retrying"
WAIT = "tests.system.actions:wait_at_gate"
WAIT_IN_THREAD = "tests.system.actions:wait_in_thread"


@asynccontextmanager
async def busy_server() -> AsyncIterator[str]:
    """Answer the first request 503 and Retry-After, the following ones 404; give the address."""
    answers = [b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = answers.pop() if answers else b"HTTP/1.1 404 Gone\r\n"
        writer.write(said + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def waited(deployment: Deployment, identity: UUID) -> float:
    """Return for how long the first retry of an execution was put off, in seconds."""
    found: float = await deployment.connection.fetchval(
        "SELECT extract(epoch FROM n.at - t.at)::float8 FROM execution_transition t"
        " JOIN execution_transition n ON n.execution_id = t.execution_id AND n.move = t.move + 1"
        " WHERE t.execution_id = $1 AND t.source = 'running' AND t.target = 'requested' ORDER BY t.move LIMIT 1",
        identity,
    )
    return found


async def test_each_kind_of_action_is_tried_again_for_the_errors_its_policy_names_when_it_asks(
    deployment: Deployment,
) -> None:
    async with busy_server() as url:
        again = {"max_attempts": 3, "delay": "50ms"}
        http = {"errors": ["HttpStatus/5xx"], "delay": "2m"}
        await deployment.register("call", http={"url": url}, retry={**again, **http})
        await deployment.register("ask", function=f"{FUNCTIONS}:ask_again", retry={**again, "errors": ["OSError"]})
        await deployment.register("connect", function=f"{FUNCTIONS}:connect", retry={**again, "errors": ["OSError"]})
        await deployment.register("divide", function=f"{FUNCTIONS}:divide", retry={**again, "errors": ["OSError"]})
        line = '[ "$INTERLOCK_ATTEMPT" -gt 1 ] || exit 75; exit 1'
        exits = {"errors": ["ExitCode/75"]}
        await deployment.register("script", command=["sh", "-c", line], retry={**again, **exits})
        await deployment.trio(FUNCTIONS=FUNCTIONS, HTTP_ALLOW="127.0.0.0/8")
        wanted: tuple[dict[str, float], ...] = ({}, {"seconds": 1.0}, {}, {}, {})
        names = ("call", "ask", "connect", "divide", "script")
        ids = await deployment.ask(
            [{"action": name, "params": params} for name, params in zip(names, wanted, strict=True)]
        )
        await deployment.until_ended(ids)
    tried = {name: await deployment.attempts(identity) for name, identity in zip(names, ids, strict=True)}
    assert tried == {
        "call": [(1, "failed"), (2, "failed")],
        "ask": [(1, "failed"), (2, "completed")],
        "connect": [(1, "failed"), (2, "completed")],
        "divide": [(1, "failed")],
        "script": [(1, "failed"), (2, "failed")],
    }
    call, ask, connect, *_ = ids
    # The server and the function said when; the policy's own delay would have been two minutes, and 50 ms.
    assert [1.0 <= await waited(deployment, identity) < 5.0 for identity in (call, ask)] == [True, True]
    classes = await deployment.connection.fetch(
        "SELECT error_class FROM execution_attempt WHERE attempt = 1 AND execution_id = ANY($1) ORDER BY execution_id",
        [ask, connect],
    )
    assert [row["error_class"] for row in classes] == ["RetryAfter", f"{FUNCTIONS}.Busy"]
    await deployment.until_clean()


async def test_a_retry_outlives_every_daemon_that_knew_of_it(deployment: Deployment) -> None:
    await deployment.register(
        "ask", function=f"{FUNCTIONS}:ask_again", limit=1, retry={"max_attempts": 2, "max_delay": "1h"}
    )
    daemons = await deployment.trio(FUNCTIONS=FUNCTIONS)
    [identity] = await deployment.submit("ask", params={"seconds": 1800.0})

    async def put_off() -> bool:
        row = await deployment.row(identity)
        assert (row["status"], row["failures"]) == ("requested", 1)
        return row["not_before"] is not None

    await eventually(put_off)
    for daemon in daemons:
        deployment.kill(daemon)
    # Half an hour goes by.
    await deployment.connection.execute("UPDATE execution SET not_before = not_before - interval '30 minutes'")
    await deployment.connection.execute("UPDATE timer SET due = due - interval '30 minutes'")
    await deployment.trio(FUNCTIONS=FUNCTIONS)
    row = await deployment.until(identity, "completed")
    assert (json.loads(row["result"]), row["failures"], row["losses"]) == (2, 1, 0)
    assert await deployment.attempts(identity) == [(1, "failed"), (2, "completed")]
    await deployment.until_clean()


async def test_a_thread_that_ignores_its_deadline_is_called_to_order_by_an_executor(
    deployment: Deployment, gate: Gate
) -> None:
    retry = {"max_attempts": 3, "delay": 0}
    await deployment.register("stubborn", function=WAIT_IN_THREAD, timeout={"run": "100ms"}, retry=retry)
    await deployment.trio()
    [identity] = await deployment.submit("stubborn", params={"gate": gate.path})
    await gate.arrived(1)
    # The worker's own deadline passes, and nothing can stop the thread: it goes on, and holds its place.
    hurry = "UPDATE timer SET due = now() WHERE execution_id = $1 AND kind = 'run'"
    assert await deployment.connection.execute(hurry, identity) == "UPDATE 1"
    row = await deployment.until(identity, "cancelling")
    assert row["cancel_reason"] == "timed_out: ran longer than its run timeout"
    gate.let_all_go("too late")
    row = await deployment.until(identity, "timed_out")
    assert await deployment.attempts(identity) == [(1, "timed_out")]
    assert await deployment.moves(identity) == [
        (None, "scheduled", "executor"),
        ("scheduled", "running", "worker"),
        ("running", "cancelling", "executor"),
        ("cancelling", "timed_out", "worker"),
    ]
    await deployment.until_clean()


async def test_a_deadline_ends_what_waits_and_stops_what_runs(deployment: Deployment) -> None:
    await deployment.register("sleep", command=["sleep", "600"], timeout={"total": "1s"}, grace="1s")
    await deployment.register("patient", command=["true"], timeout={"queue": "300ms"})
    await deployment.connection.execute("""SELECT set_queue('leaf', 'action:patient', '{"lim": 0}')""")
    await deployment.trio()
    [running], [waiting] = await deployment.submit("sleep"), await deployment.submit("patient")
    assert await deployment.until_ended([running, waiting]) == {"timed_out": 2}
    told = {
        name: json.loads((await deployment.row(i))["error"])["message"]
        for name, i in (("running", running), ("waiting", waiting))
    }
    assert told == {
        "running": "timed_out: not finished by its deadline",
        "waiting": "timed_out: waited longer than its queue timeout",
    }
    assert (await deployment.moves(running))[-2:] == [
        ("running", "cancelling", "executor"),
        ("cancelling", "timed_out", "worker"),
    ]
    await deployment.until_clean()


async def test_what_a_dead_worker_was_to_start_goes_back_within_the_start_deadline(
    deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT, timeout={"start": "500ms"})
    *_, worker = await deployment.trio()
    # Its lease goes on for a while, so work is still dispatched to its pool.
    deployment.kill(worker)
    [identity] = await deployment.submit("job", params={"gate": gate.path})
    back = ("scheduled", "requested", "executor")

    async def came_back() -> bool:
        return back in await deployment.moves(identity)

    await eventually(came_back)
    gate.decide = lambda _: "done"
    await deployment.worker()
    await deployment.until(identity, "completed")
    row = await deployment.row(identity)
    assert (row["failures"], row["losses"]) == (0, 0)
