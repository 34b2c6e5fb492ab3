"""Nothing of a worker outlives its lease, and what was killed with it is not judged: commands, daemons, processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.eventually import eventually
from tests.system.deployment import Deployment, ids_of
from worker.cgroup import Cgroup, NoCgroup

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system.gate import Gate

SHORT: Final = {"LEASE": "8", "RENEW": "1", "GUARDIAN": "3", "REAPER": "0.5", "RECONCILE": "1"}
WAIT: Final = "tests.system.actions:wait_at_gate"
# A shell that leaves a daemon of its own behind: its own session, deaf to signals, told in a file named by its pid.
DAEMON: Final = (
    'setsid sh -c \'trap "" TERM HUP; echo > "$0/daemon-$$"; while :; do sleep 0.1; done\' "$0" & '
    'echo > "$0/command-$$"; wait'
)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def told(folder: Path, name: str) -> list[int]:
    return sorted(int(file.name.rpartition("-")[2]) for file in folder.glob(f"{name}-*"))


def needs(level: str) -> None:
    """Skip where a real attempt finds that there is no control group."""
    if level != "cgroup":
        return
    try:
        Cgroup.create().close()
    except NoCgroup as reason:
        pytest.skip(f"no control group can be had here: {reason}")


async def lost_once(deployment: Deployment, *ids: UUID) -> bool:
    """Whether each was taken from its worker once, as a loss and not as a failure."""
    for identity in ids:
        row = await deployment.row(identity)
        assert (row["losses"], row["failures"], row["error"]) == (1, 0, None), dict(row)
        assert (await deployment.attempts(identity))[:1] == [(1, "lost")]
        assert ("running", "requested", "executor") in await deployment.moves(identity)
    return True


@pytest.mark.parametrize("level", ["guardian", "cgroup"])
async def test_a_worker_past_its_lease_leaves_nothing_alive_and_what_it_ran_was_lost_not_failed(
    deployment: Deployment, gate: Gate, tmp_path: Path, level: str
) -> None:
    needs(level)
    await deployment.register("command", command=["sh", "-c", DAEMON, str(tmp_path)], retry={"max_attempts": 3})
    await deployment.register("isolated", function=WAIT, isolation="process", retry={"max_attempts": 3})
    await deployment.trio(**SHORT, CONTAINMENT=level)
    [command] = await deployment.submit("command")
    [isolated] = await deployment.submit("isolated", params={"gate": gate.path})
    [visitor] = await gate.arrived(1)
    await eventually(lambda: told(tmp_path, "daemon") and told(tmp_path, "command"))
    first = await deployment.connection.fetchrow("SELECT * FROM worker")
    assert first is not None
    assert first["containment"] == level
    tree = [first["pid"], visitor.pid, *told(tmp_path, "daemon"), *told(tmp_path, "command")]
    assert len(set(tree)) == 4
    os.kill(first["pid"], signal.SIGSTOP)
    await eventually(lambda: all(map(is_gone, tree)), timeout=10)
    # All of it was gone while the lease still lived: nobody could run these executions meanwhile.
    assert await deployment.connection.fetchval(
        "SELECT lease_expires_at > now() AND ended_at IS NULL FROM worker WHERE id = $1", first["id"]
    )
    await gate.arrived(2, timeout=20)
    await eventually(lambda: len(told(tmp_path, "command")) == 2, timeout=20)
    assert await lost_once(deployment, command, isolated)
    gate.let_all_go("done")
    await deployment.until(isolated, "completed")
    await deployment.cancel(command)
    await deployment.until(command, "cancelled", timeout=20)
    await eventually(lambda: all(map(is_gone, told(tmp_path, "daemon"))))
    assert gate.most_of_one == 1


async def test_what_a_killed_guardian_could_not_kill_is_killed_by_the_next_one(
    deployment: Deployment, tmp_path: Path
) -> None:
    needs("cgroup")
    await deployment.register("command", command=["sh", "-c", DAEMON, str(tmp_path)])
    *_, worker = await deployment.trio(**SHORT, CONTAINMENT="cgroup")
    [identity] = await deployment.submit("command")
    await eventually(lambda: told(tmp_path, "daemon"))
    [daemon] = told(tmp_path, "daemon")
    # Not its whole session, as a deployment's kill would: the guardian alone, which has no last word then.
    os.kill(worker.pid, signal.SIGKILL)
    deployment.kill(worker)
    await eventually(lambda: all(map(is_gone, told(tmp_path, "command"))))
    # That it still lives cannot be asserted: the guardian of a test beside this one may be the next.
    await deployment.worker(**SHORT, CONTAINMENT="cgroup")
    await eventually(lambda: is_gone(daemon))
    await deployment.cancel(identity)
    await deployment.until(identity, "cancelled", timeout=20)


async def test_a_worker_that_must_have_a_control_group_and_cannot_does_not_start(deployment: Deployment) -> None:
    # Where one can be had, it is taken away: this guardian's own group refuses to have any below it.
    needs("cgroup")
    group = Cgroup.create()
    try:
        (group._folder / "cgroup.max.descendants").write_text("0\n")  # noqa: SLF001 - the one place to forbid it
        daemon = deployment.daemon("worker", {"CONTAINMENT": "cgroup"})
        deployment.kill(daemon)
        group.enter()
        try:
            daemon.child.start()
        finally:
            own = group._folder.parent / "cgroup.procs"  # noqa: SLF001 - back to where these tests were
            own.write_text(f"{os.getpid()}\n")
        assert await daemon.child.wait(40) == 78
        said = [line["event"] for line in deployment.lines(daemon)]
        assert any("INTERLOCK_CONTAINMENT: no control group can be had here" in line for line in said), said
    finally:
        group.close()


async def test_functions_in_processes_have_deadlines_cancels_and_deaths_of_their_own(
    deployment: Deployment, gate: Gate
) -> None:
    quick: dict[str, Any] = {"isolation": "process", "grace": "200ms"}
    await deployment.register("wait", function="tests.system.actions:wait_in_thread", timeout={"run": "2s"}, **quick)
    await deployment.register("park", function="tests.system.actions:wait_in_thread", **quick)
    await deployment.register("deadly", function="tests.system.actions:kill_worker", **quick)
    await deployment.register("add", function="tests.system.actions:add", **quick)
    completed = await deployment.subscribe("completions")
    await deployment.trio()
    [slow] = await deployment.submit("wait", params={"gate": gate.path})
    [parked] = await deployment.submit("park", params={"gate": gate.path})
    [deadly] = await deployment.submit("deadly")
    [added] = await deployment.submit("add", params={"a": 2, "b": 3})
    # It killed its own process and nothing else: the worker lives, and says what happened.
    assert "ProcessDied" in (await deployment.until(deadly, "failed"))["error"]
    assert (await deployment.until(added, "completed"))["result"] == '{"sum": 5}'
    pids = {visitor.id: visitor.pid for visitor in await gate.arrived(2)}
    assert len(set(pids.values())) == 2
    # A thread would go on for as long as the gate is shut.
    assert "longer than 2 s" in (await deployment.until(slow, "timed_out"))["error"]
    assert is_gone(pids[slow])
    await deployment.cancel(parked)
    await deployment.until(parked, "cancelled")
    assert is_gone(pids[parked])
    logged = "SELECT line FROM execution_log WHERE execution_id = $1"
    await eventually(lambda: deployment.connection.fetchval(logged, added))
    assert await deployment.connection.fetchval(logged, added) == "adding 2 and 3"
    assert await deployment.connection.fetchval("SELECT count(*) FROM worker") == 1
    await deployment.until_clean()
    await eventually(lambda: ids_of(completed) == dict.fromkeys((slow, parked, deadly, added), 1))


async def test_processes_are_warm_and_never_more_than_the_concurrency(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("wait", function="tests.system.actions:wait_at_gate", isolation="process")
    await deployment.trio(CONCURRENCY="2")
    ids = await deployment.submit("wait", 12, params={"gate": gate.path})
    await gate.arrived(2)
    gate.let_all_go("done")
    assert await deployment.until_ended(ids, timeout=40) == {"completed": 12}
    assert len({visitor.pid for visitor in gate.seen}) == 2
    assert gate.most == 2
