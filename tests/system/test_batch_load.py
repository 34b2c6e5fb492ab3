"""A large batch on real daemons: it plans while it runs, counts exactly, and what comes behind it is not starved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from interlock.client import Client
from interlock.contract.status import Status
from tests.eventually import eventually

if TYPE_CHECKING:
    from uuid import UUID

    from tests.system.deployment import Deployment

PARTITIONS: Final = 1500
PLACES: Final = 10
BEGUN_BEFORE: Final = """
SELECT count(*) FROM execution_transition t JOIN execution e ON e.id = t.execution_id
WHERE e.parent_id = $2 AND t.target = 'running'
  AND t.position > (SELECT min(position) FROM execution_transition WHERE execution_id = $1)
  AND t.position < (SELECT min(position) FROM execution_transition WHERE execution_id = $1 AND target = 'running')
"""


async def test_a_run_that_is_submitted_behind_a_large_batch_begins_with_the_next_few(
    deployment: Deployment, database_url: str
) -> None:
    await deployment.register("job", function="tests.system.actions:nothing")
    await deployment.trio(CONCURRENCY=str(PLACES))
    async with Client.connect(database_url) as client:
        batch = await started(client)

        async def waits_for_long() -> bool:
            return (await client.batches.get(batch)).waiting > PARTITIONS // 2

        await eventually(waits_for_long, timeout=30)
        (behind,) = await client.submit([{"action": "job"}])
        assert behind.id is not None
        assert await deployment.until_ended([behind.id], timeout=30) == {"completed": 1}
        assert (await client.batches.get(batch)).waiting > 0

        async def over() -> bool:
            return (await client.batches.get(batch)).status is Status.COMPLETED

        await eventually(over, timeout=60)
        state = await client.batches.get(batch)
        assert (state.completed, state.total, state.percent) == (PARTITIONS, PARTITIONS, 100)
        assert (await client.examine()).violations == 0
    # Twice the places may be dispatched already; then the lanes take turns.
    assert await deployment.connection.fetchval(BEGUN_BEFORE, behind.id, batch) <= 6 * PLACES


async def started(client: Client) -> UUID:
    definition = {
        "partition": {"range": {"from": 1, "to": PARTITIONS, "step": 1}},
        "run": {"action": "job", "params": {"number": "{{ item }}"}},
        "max_parallel": None,
    }
    (answer,) = await client.submit([{"action": "numbers", "definition": definition}])
    assert answer.id is not None
    return answer.id
