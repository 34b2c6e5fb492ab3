"""What happens while something runs: limits, retries, deadlines, cancels, and the drain of a worker."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from interlock.contract import events
from tests.eventually import eventually
from tests.system.deployment import ids_of
from tests.world import fresh_id

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.deployment import Deployment
    from tests.system.gate import Gate

WAIT = "tests.system.actions:wait_at_gate"
WAIT_IN_THREAD = "tests.system.actions:wait_in_thread"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_limit_of_two_never_lets_a_third_in(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("job", function=WAIT, limit=2)
    await asyncio.gather(deployment.trio(), deployment.worker())
    ids = await deployment.submit("job", 10, params={"gate": gate.path})
    for gone in range(0, 10, 2):
        await gate.arrived(gone + 2)
        active = await deployment.connection.fetchval("SELECT active FROM queue WHERE name = 'action:job'")
        assert (active, len(gate.waiting)) == (2, 2)
        for visitor in list(gate.waiting):
            visitor.let_go()
    assert await deployment.until_ended(ids) == {"completed": 10}
    assert (gate.most, len(gate.seen)) == (2, 10)
    # They ran in the order in which they were asked for.
    assert [{visitor.id for visitor in gate.seen[n : n + 2]} for n in range(0, 10, 2)] == [
        set(ids[n : n + 2]) for n in range(0, 10, 2)
    ]
    await deployment.until_clean()
    assert deployment.loud() == []


async def test_a_failed_attempt_is_made_again_after_its_delay_and_gives_its_slot_away_meanwhile(
    deployment: Deployment, gate: Gate
) -> None:
    retry = {"max_attempts": 3, "backoff": "constant", "delay": "1s"}
    await deployment.register("job", function=WAIT, limit=1, retry=retry)
    asked: list[UUID] = []
    gate.decide = lambda visitor: {"fail": "not yet"} if visitor.id == asked[0] and visitor.attempt < 3 else "done"
    await deployment.trio()
    completed = await deployment.subscribe("completions")
    requests = [{"id": str(fresh_id()), "action": "job", "params": {"gate": gate.path}} for _ in range(2)]
    flaky, other = asked[:] = [UUID(str(request["id"])) for request in requests]
    await deployment.publish(*events.encode(events.requested("/test", requests)))
    assert await deployment.until_ended([flaky, other]) == {"completed": 2}
    # One slot: the other one ran while the first one waited for its second attempt.
    assert [(v.id, v.attempt) for v in gate.seen] == [(flaky, 1), (other, 1), (flaky, 2), (flaky, 3)]
    begun = [("requested", "scheduled", "executor"), ("scheduled", "running", "worker")]
    again = [("running", "requested", "worker"), *begun]
    assert await deployment.moves(flaky) == [
        (None, "requested", "executor"),
        *begun,
        *again,
        *again,
        ("running", "completed", "worker"),
    ]
    assert await deployment.attempts(flaky) == [(1, "failed"), (2, "failed"), (3, "completed")]
    row = await deployment.row(flaky)
    assert (row["failures"], row["losses"], row["attempt"]) == (2, 0, 3)
    waits = await deployment.connection.fetch(
        "SELECT n.at - t.at AS waited FROM execution_transition t"
        " JOIN execution_transition n ON n.execution_id = t.execution_id AND n.move = t.move + 1"
        " WHERE t.source = 'running' AND t.target = 'requested'"
    )
    assert [1 <= row["waited"].total_seconds() < 3 for row in waits] == [True, True]
    await deployment.until_clean()
    await eventually(lambda: ids_of(completed) == {flaky: 1, other: 1})


async def test_an_attempt_that_outruns_its_deadline_is_stopped_and_timed_out(
    deployment: Deployment, tmp_path: Path
) -> None:
    line = 'echo $$ > "$0"; exec sleep 600'
    await deployment.register(
        "job", command=["sh", "-c", line, "{{ params.file }}"], timeout={"run": "300ms"}, grace="1s"
    )
    await deployment.trio()
    [identity] = await deployment.submit("job", params={"file": str(tmp_path / "pid")})
    row = await deployment.until(identity, "timed_out")
    assert "longer than 0.3 s" in row["error"]
    assert await deployment.attempts(identity) == [(1, "timed_out")]
    assert not is_alive(int((tmp_path / "pid").read_text()))
    await deployment.until_clean()


async def test_what_waits_is_cancelled_at_once_and_what_runs_when_its_process_has_ended(
    deployment: Deployment, tmp_path: Path
) -> None:
    # The shell outlives the first signal, so that the cancel is visible before its end.
    line = 'trap "touch $0.told" TERM; echo $$ > "$0"; while ! [ -e "$0.end" ]; do sleep 0.05; done'
    await deployment.register("job", command=["sh", "-c", line, "{{ params.file }}"], limit=1, grace="20s")
    completed = await deployment.subscribe("completions")
    await deployment.trio()
    file, told, end = (tmp_path / name for name in ("pid", "pid.told", "pid.end"))
    running, waiting = await deployment.submit("job", 2, params={"file": str(file)})
    await eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    pid = int(file.read_text())
    await deployment.cancel(waiting, running)
    row = await deployment.until(waiting, "cancelled")
    assert row["cancel_reason"] == "not wanted"
    assert await deployment.moves(waiting) == [(None, "requested", "executor"), ("requested", "cancelled", "executor")]
    await deployment.until(running, "cancelling")
    await eventually(told.exists)
    assert is_alive(pid)
    assert (await deployment.row(running))["status"] == "cancelling"
    end.touch()
    await deployment.until(running, "cancelled")
    assert not is_alive(pid)
    assert (await deployment.moves(running))[-2:] == [
        ("running", "cancelling", "executor"),
        ("cancelling", "cancelled", "worker"),
    ]
    # What has ended stays as it is.
    before = [dict(await deployment.row(identity)) for identity in (running, waiting)]
    await deployment.cancel(waiting, running, reason="again")
    [last] = await deployment.submit("job", params={"file": str(file)})
    await deployment.until_ended([last])
    requests = deployment.topology.requests_queue.name

    async def all_handled() -> bool:
        # With two executors, the last one's end says nothing about the messages before it.
        return await deployment.metric("executor", "interlock_flush_size_sum", kind=requests) == 7

    await eventually(all_handled)
    assert [dict(await deployment.row(identity)) for identity in (running, waiting)] == before
    await deployment.until_clean()
    await eventually(lambda: ids_of(completed) == {running: 1, waiting: 1, last: 1})


async def test_a_process_that_ignores_the_cancel_is_killed_after_its_grace(
    deployment: Deployment, tmp_path: Path
) -> None:
    line = 'trap "" TERM; echo $$ > "$0"; while :; do sleep 0.05; done'
    await deployment.register("job", command=["sh", "-c", line, "{{ params.file }}"], grace="300ms")
    await deployment.trio()
    file = tmp_path / "pid"
    [identity] = await deployment.submit("job", params={"file": str(file)})
    await eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    await deployment.cancel(identity)
    await deployment.until(identity, "cancelled")
    assert not is_alive(int(file.read_text()))
    assert await deployment.attempts(identity) == [(1, "cancelled")]


@pytest.mark.parametrize("before", [False, True], ids=["at once", "when it was told to stop before"])
async def test_what_is_cancelled_by_force_is_killed_without_its_grace(
    deployment: Deployment, tmp_path: Path, *, before: bool
) -> None:
    file, heard = tmp_path / "pid", tmp_path / "heard"
    line = 'trap "echo > \\"$1\\"" TERM; echo $$ > "$0"; while :; do sleep 0.05; done'
    command = ["sh", "-c", line, "{{ params.file }}", "{{ params.heard }}"]
    await deployment.register("job", command=command, grace="1h")
    await deployment.trio()
    [identity] = await deployment.submit("job", params={"file": str(file), "heard": str(heard)})
    await eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    if before:
        await deployment.cancel(identity)
        await eventually(heard.exists)
    await deployment.cancel(identity, force=True)
    await deployment.until(identity, "cancelled")
    assert not is_alive(int(file.read_text()))
    assert await deployment.attempts(identity) == [(1, "cancelled")]
    await deployment.until_clean()


async def test_a_cancel_that_comes_before_its_request_is_honoured(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("job", function=WAIT)
    completed = await deployment.subscribe("completions")
    await deployment.trio()
    identity = str(fresh_id())
    await deployment.cancel(UUID(identity), reason="too late")
    tombstones = "SELECT count(*) FROM cancel_tombstone"
    await eventually(lambda: deployment.connection.fetchval(tombstones))
    wanted = events.requested("/test", [{"id": identity, "action": "job", "params": {"gate": gate.path}}])
    await deployment.publish(*events.encode(wanted))
    row = await deployment.until(UUID(identity), "cancelled")
    assert row["cancel_reason"] == "too late"
    assert await deployment.moves(UUID(identity)) == [(None, "cancelled", "executor")]
    assert await deployment.connection.fetchval(tombstones) == 0
    await eventually(lambda: ids_of(completed) == {UUID(identity): 1})
    assert gate.seen == []


async def test_a_draining_worker_finishes_what_runs_and_takes_nothing_more(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("job", function=WAIT)
    await deployment.register("in_thread", function=WAIT_IN_THREAD)
    *_, first = await deployment.trio()
    ids = await deployment.submit("job", params={"gate": gate.path})
    ids += await deployment.submit("in_thread", params={"gate": gate.path})
    await gate.arrived(2)
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(deployment.stop(first))
        await eventually(
            lambda: deployment.connection.fetchval("SELECT count(*) FROM worker WHERE draining AND ended_at IS NULL")
        )
        late = await deployment.submit("job", params={"gate": gate.path})
        gate.let_all_go("done")
    assert stopped.result() == 0
    assert await deployment.until_ended(ids) == {"completed": 2}
    assert await deployment.connection.fetchval("SELECT count(*) FROM worker WHERE ended_at IS NULL") == 0
    assert (await deployment.row(late[0]))["status"] in {"requested", "scheduled"}
    await deployment.worker()
    assert await deployment.until_ended(late) == {"completed": 1}
    assert [await deployment.attempts(identity) for identity in (*ids, *late)] == [[(1, "completed")]] * 3
    await deployment.until_clean()
    assert deployment.loud() == []


async def test_what_does_not_finish_within_the_drain_is_handed_back_and_taken_over_at_once(
    deployment: Deployment, gate: Gate, tmp_path: Path
) -> None:
    await deployment.register("job", function=WAIT)
    line = 'echo $$ >> "$0"; exec sleep 600'
    await deployment.register("endless", command=["sh", "-c", line, "{{ params.file }}"], grace="1s")
    *_, first = await deployment.trio(DRAIN="0.5")
    [endless] = await deployment.submit("endless", params={"file": str(tmp_path / "pids")})
    [job] = await deployment.submit("job", params={"gate": gate.path})
    await gate.arrived(1)
    await deployment.until(endless, "running")
    await eventually((tmp_path / "pids").exists)
    await deployment.worker(DRAIN="0.5")
    assert await deployment.stop(first) == 0
    # The lease of the first one is 25 s: nobody waits for it.
    await gate.arrived(2, timeout=8)
    gate.let_all_go("done")
    assert await deployment.until_ended([job]) == {"completed": 1}
    assert await deployment.attempts(job) == [(1, "handed_back"), (2, "completed")]
    row = await deployment.row(job)
    assert (row["failures"], row["losses"], row["attempt"]) == (0, 0, 2)
    assert gate.most_of_one == 1
    assert ("running", "requested", "worker") in await deployment.moves(job)
    gone = await deployment.connection.fetchrow("SELECT * FROM worker WHERE ended_at IS NOT NULL")
    assert gone is not None
    await eventually(lambda: len((tmp_path / "pids").read_text().split()) == 2)
    assert [is_alive(int(pid)) for pid in (tmp_path / "pids").read_text().split()] == [False, True]
    await deployment.cancel(endless)
    await deployment.until(endless, "cancelled")
    await deployment.until_clean()


async def test_a_worker_that_has_drained_leaves_no_message_and_no_log_line_behind(deployment: Deployment) -> None:
    await deployment.register("add", function="tests.system.actions:add")
    completed = await deployment.subscribe("completions")
    *_, worker = await deployment.trio()
    ids = await deployment.submit("add", 200, params={"a": 1, "b": 2})
    await eventually(lambda: deployment.connection.fetchval("SELECT count(*) > 100 FROM execution_attempt"))
    assert await deployment.stop(worker) == 0
    ended = await deployment.connection.fetch("SELECT execution_id FROM execution_attempt")
    assert await deployment.connection.fetchval("SELECT count(*) FROM outbox WHERE role = 'worker'") == 0
    assert await deployment.connection.fetchval("SELECT count(*) FROM in_flight WHERE worker_id IS NOT NULL") == 0
    assert await deployment.connection.fetchval("SELECT count(*) FROM execution_log") == len(ended)
    await eventually(lambda: set(ids_of(completed)) == {row["execution_id"] for row in ended})
    assert await deployment.connection.fetchval("SELECT sum(losses) FROM execution") == 0
    await deployment.worker()
    assert await deployment.until_ended(ids) == {"completed": 200}
    assert await deployment.connection.fetchval("SELECT count(*) FROM execution_attempt") == 200
    assert deployment.loud() == []
