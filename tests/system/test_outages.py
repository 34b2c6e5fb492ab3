"""Messages lost, lines cut, backends ended: the work goes on, and every execution ends once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.eventually import eventually
from tests.system.deployment import ids_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interlock.local.daemons import Daemon
    from tests.system.deployment import Deployment
    from tests.system.gate import Gate
    from tests.system.wire import Wire

NOTHING = "tests.system.actions:nothing"
WAIT = "tests.system.actions:wait_at_gate"


def put_behind(deployment: Deployment, wire: Wire, query: str = "") -> None:
    """Let daemons that start from now on reach the broker through the wire."""
    here = deployment.endpoints
    deployment.endpoints = replace(
        here, executor=wire.url_through(here.executor, query), worker=wire.url_through(here.worker, query)
    )


async def readiness(daemons: Iterable[Daemon]) -> list[bool]:
    """Ask each, all at once, whether it is ready."""
    return await asyncio.gather(*(daemon.is_ready() for daemon in daemons))


async def test_with_all_completions_lost_the_reconciler_releases_the_slots_and_the_run_goes_on(
    deployment: Deployment,
) -> None:
    await deployment.register("job", function=NOTHING, limit=5)
    completed = await deployment.subscribe("completions")
    owner = await deployment.channel("amqp_url")
    queue = await owner.get_queue(deployment.topology.completed_queue.name, ensure=False)
    await deployment.trio(RECONCILE="0.3")
    await queue.unbind(deployment.topology.completions.name, "execution.completed.#")
    ids = await deployment.submit("job", 15)
    assert await deployment.until_ended(ids) == {"completed": 15}
    await deployment.until_clean()
    assert await deployment.metric("executor", "interlock_repairs_total", kind="slot") == 15
    assert ids_of(completed) == dict.fromkeys(ids, 1)


async def test_what_the_dispatch_queue_lost_is_claimed_from_the_table(deployment: Deployment, gate: Gate) -> None:
    await deployment.register("job", function=WAIT)
    await deployment.trio(CONCURRENCY="2")
    ids = await deployment.submit("job", 4, params={"gate": gate.path})
    await gate.arrived(2)
    await deployment.purge(deployment.topology.pool_queue("default").name)
    gate.let_all_go()
    assert await deployment.until_ended(ids) == {"completed": 4}
    assert [len(await deployment.attempts(identity)) for identity in ids] == [1, 1, 1, 1]
    await deployment.until_clean()
    assert await deployment.metric("worker", "interlock_executions_total") == 4


async def test_lines_to_the_broker_that_are_cut_again_and_again_lose_nothing(
    broker_wire: Wire, deployment: Deployment
) -> None:
    await deployment.register("job", function=NOTHING, limit=10)
    completed = await deployment.subscribe("completions")
    put_behind(deployment, broker_wire)
    await deployment.trio(RECONCILE="1")
    ids = []
    for _ in range(8):
        ids += await deployment.submit("job", 25)
        # Each time somewhere else: while connecting, declaring, consuming, publishing.
        await eventually(partial(broker_wire.has_passed, broker_wire.passed + 300))
        broker_wire.cut()
    assert await deployment.until_ended(ids, timeout=40) == {"completed": 200}
    await deployment.until_clean(timeout=20)
    await eventually(lambda: set(ids_of(completed)) == set(ids))
    assert len({each["id"] for each in completed}) == 200
    assert {len(await deployment.attempts(identity)) for identity in ids[::20]} == {1}


async def test_a_broker_that_falls_silent_is_noticed_and_left_for_a_new_session(
    broker_wire: Wire, deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT)
    put_behind(deployment, broker_wire, "heartbeat=1")
    daemons = await deployment.trio()
    [identity] = await deployment.submit("job", params={"gate": gate.path})
    await gate.arrived(1)
    broker_wire.silence()

    async def none_ready() -> bool:
        return not any(await readiness(daemons))

    await eventually(none_ready, timeout=20)
    # What runs goes on without a broker, and its end is in the database.
    gate.let_all_go("done")
    await deployment.until(identity, "completed")
    broker_wire.restore()

    async def all_ready() -> bool:
        return all(await readiness(daemons))

    await eventually(all_ready, timeout=20)
    again = await deployment.submit("job", 3, params={"gate": gate.path})
    assert await deployment.until_ended(again) == {"completed": 3}
    await deployment.until_clean()


async def test_backends_terminated_again_and_again_lose_nothing(deployment: Deployment) -> None:
    await deployment.register("job", function=NOTHING, limit=20)
    completed = await deployment.subscribe("completions")
    await deployment.trio(RECONCILE="1")
    ids = await deployment.submit("job", 500)
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    reached = "SELECT count(*) > $1 FROM execution WHERE finished_at IS NOT NULL"
    for threshold in (20, 120, 220, 320, 420):
        await eventually(partial(deployment.connection.fetchval, reached, threshold), timeout=30)
        await deployment.connection.execute(terminate)
    assert await deployment.until_ended(ids, timeout=40) == {"completed": 500}
    await deployment.until_clean(timeout=15)
    assert await deployment.connection.fetchval("SELECT count(*) FROM execution_attempt") == 500
    await eventually(lambda: set(ids_of(completed)) == set(ids))
    assert {line["level"] for line in deployment.loud()} <= {"warning"}


async def test_a_database_that_is_away_for_a_while_is_waited_for(
    database_wire: Wire, deployment: Deployment, gate: Gate
) -> None:
    await deployment.register("job", function=WAIT)
    here = deployment.endpoints
    deployment.endpoints = replace(here, database_url=database_wire.url_through(here.database_url))
    *_, worker = daemons = await deployment.trio()
    running = await deployment.submit("job", 5, params={"gate": gate.path})
    await gate.arrived(5)
    database_wire.refusing = True
    database_wire.cut()
    asked = await deployment.submit("job", 5, params={"gate": gate.path})
    gate.let_all_go("done")

    def noticed() -> bool:
        lines = [line["event"] for line in deployment.lines(worker)]
        return "finishing waits for the database" in lines

    await eventually(noticed)
    database_wire.restore()
    assert await deployment.until_ended([*running, *asked]) == {"completed": 10}
    await deployment.until_clean()
    assert [len(await deployment.attempts(identity)) for identity in (*running, *asked)] == [1] * 10

    async def all_ready() -> bool:
        return all(await readiness(daemons))

    await eventually(all_ready)


async def test_daemons_that_are_stopped_while_the_database_is_away_end_well(
    database_wire: Wire, deployment: Deployment
) -> None:
    await deployment.register("job", function=NOTHING)
    here = deployment.endpoints
    deployment.endpoints = replace(here, database_url=database_wire.url_through(here.database_url))
    daemons = await deployment.trio()
    await deployment.until_ended(await deployment.submit("job", 3))
    database_wire.refusing = True
    database_wire.cut()
    assert await asyncio.gather(*(deployment.stop(daemon) for daemon in daemons)) == [0, 0, 0]
