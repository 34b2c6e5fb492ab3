"""A worker acknowledges a dispatch when its claim is committed: what dies before that is offered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from tests.eventually import eventually
from tests.factory import make_worker

if TYPE_CHECKING:
    from tests.system.deployment import Deployment

BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_a_dispatch_whose_claim_was_not_committed_goes_back_to_its_queue(
    deployment: Deployment, database_url: str
) -> None:
    await deployment.register("job", function="tests.system.actions:nothing")
    # Dispatched for a worker that never comes, so that the test is there first.
    absent = await make_worker(deployment.connection)
    await deployment.executors()
    (identity,) = await deployment.submit("job")
    await deployment.until(identity, "scheduled")
    owner = await deployment.channel("amqp_url")
    dispatch = deployment.topology.pool_queue("default").name

    async def offered() -> int | None:
        return (await owner.declare_queue(dispatch, passive=True)).declaration_result.message_count

    async def claiming() -> int | None:
        pid: int | None = await deployment.connection.fetchval(BLOCKED)
        return pid

    async def published() -> bool:
        told: bool = await deployment.connection.fetchval("SELECT count(*) = 0 FROM outbox WHERE role = 'executor'")
        return told

    await eventually(published)
    assert await eventually(offered) == 1
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute("SELECT 1 FROM execution WHERE id = $1 FOR UPDATE", identity)
        worker = await deployment.worker()
        pid = await eventually(claiming)
        assert await offered() == 0
        deployment.kill(worker)
        assert await eventually(offered, 20) == 1
        # Its last statement must not be committed after its death: that would be another story.
        await deployment.connection.execute("SELECT pg_terminate_backend($1)", pid)
    await locker.close()
    await deployment.connection.execute("UPDATE worker SET ended_at = now() WHERE id = $1", absent)
    await deployment.worker()
    assert await deployment.until_ended([identity]) == {"completed": 1}
    assert await deployment.attempts(identity) == [(1, "completed")]
