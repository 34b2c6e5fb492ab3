"""P7: one large batch of no-ops: how long it plans, what its progress costs to read, how hot its row is.

While it runs, its progress is read without a pause worth the name, and single runs are submitted behind it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from bench.readings import percentile
from bench.stage import NOOP, Cast
from interlock.client import Client
from interlock.contract.errors import InterlockError
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from bench.readings import Reading
    from bench.stage import Stage
    from interlock.local.stack import Endpoints

NAME: Final = "p7"
LOOK_SECONDS: Final = 0.1
BEHIND_SECONDS: Final = 1.0
"""Between two single runs."""
_SERVED: Final = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM batch_state($1)"
_PLANNED: Final = """
SELECT extract(epoch FROM b.planned_at - e.requested_at)::float8
FROM batch b JOIN execution e ON e.id = b.execution_id WHERE e.id = $1
"""
_WAITED: Final = """
SELECT coalesce(max(extract(epoch FROM coalesce(started_at, now()) - requested_at)), 0)::float8
FROM execution WHERE id = ANY($1)
"""


class Unfinished(InterlockError):
    """A batch that did not end as it must: a figure of it would mean nothing."""


@dataclass(slots=True)
class _Seen:
    """What was met on the way, in milliseconds: how long each reading took, and what of it the database needs.

    And a bare `SELECT 1` beside it, and the runs behind the batch.
    """

    reads: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    selects: list[float] = field(default_factory=list)
    behind: list[UUID] = field(default_factory=list)


async def large_batch(stage: Stage, count: int) -> Reading:
    """Run one batch of `count` partitions through one executor and one worker, its parallelism bounded by nothing."""
    made: list[UUID] = []

    async def work(endpoints: Endpoints, connection: asyncpg.Connection) -> Reading:
        async with Client.connect(endpoints.database_url) as client:
            started = time.perf_counter()
            made.append(await _start(client, NOOP, count))
            seen = await _watch(client, connection, made[0], count)
            elapsed = time.perf_counter() - started
        return {
            "per_second": count / elapsed,
            "partitions": count,
            "planned_seconds": await connection.fetchval(_PLANNED, made[0]),
            "read_p50_ms": percentile(seen.reads, 0.5),
            "read_p95_ms": percentile(seen.reads, 0.95),
            "read_max_ms": max(seen.reads),
            "served_p50_ms": percentile(seen.served, 0.5),
            "select_p50_ms": percentile(seen.selects, 0.5),
            "select_max_ms": max(seen.selects),
            "behind_seconds": await connection.fetchval(_WAITED, seen.behind),
            "looks": 2 * len(seen.reads) + len(seen.behind),
        }

    return await stage.measured(NAME, count, work, Cast())


async def _start(client: Client, action: str, count: int) -> UUID:
    definition = {
        "partition": {"range": {"from": 1, "to": count, "step": 1}},
        "run": {"action": action},
        "max_parallel": None,
    }
    (answer,) = await client.submit([{"action": "bench.batch", "definition": definition}])
    if answer.id is None or answer.refused is not None:
        raise Unfinished(f"the batch was refused: {answer.error or answer.refused}")
    return answer.id


async def _watch(client: Client, connection: asyncpg.Connection, batch: UUID, count: int) -> _Seen:
    """Read the progress until the batch has ended, and submit a run behind it every second once it plans."""
    seen = _Seen()
    due = time.perf_counter()
    while True:
        asked = time.perf_counter()
        state = await client.batches.get(batch)
        answered = time.perf_counter()
        await connection.fetchval("SELECT 1")
        seen.reads.append(1000 * (answered - asked))
        seen.selects.append(1000 * (time.perf_counter() - answered))
        (told,) = orjson.loads(await connection.fetchval(_SERVED, batch))
        seen.served.append(told["Execution Time"])
        if state.status in TERMINAL:
            break
        if state.waiting and asked >= due:
            (answer,) = await client.submit([{"action": NOOP}])
            due = asked + BEHIND_SECONDS
            if answer.id is not None:
                seen.behind.append(answer.id)
        await asyncio.sleep(LOOK_SECONDS)
    if state.status is not Status.COMPLETED or state.completed != count:
        raise Unfinished(f"the batch ended {state.status} with {state.completed} of {count} partitions completed")
    return seen
