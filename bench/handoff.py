"""P4, the hand-off of a slot: how much of what a limit allows is used by work of 20 ms. Two executors, one worker.

Ideal are `limit` executions at a time without a gap. The floors do the same work without Interlock: on one event loop
under a semaphore, behind the broker's prefetch, and passed round between two bare consumers with the messages and
commits that a slot's way round cannot do without.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bench import hops
from bench.actions import WORK_SECONDS, pause
from bench.readings import Reading, named
from bench.stage import Cast, publish, requests, until_finished

if TYPE_CHECKING:
    import asyncpg

    from bench.stage import Stage
    from interlock.local.stack import Endpoints

LIMITS: Final = (1, 10)
_GAPS: Final = """
WITH moves AS (
    SELECT execution_id, target, at,
           row_number() OVER (PARTITION BY target ORDER BY position) AS n
    FROM execution_transition WHERE target IN ('scheduled', 'running', 'completed')
), lives AS (
    SELECT s.n, s.at AS scheduled, r.at AS running, e.at AS ended, e.n AS place
    FROM moves s JOIN moves r USING (execution_id) JOIN moves e USING (execution_id)
    WHERE s.target = 'scheduled' AND r.target = 'running' AND e.target = 'completed'
), gaps AS (
    SELECT l.running, l.ended, l.scheduled - b.ended AS release, l.running - l.scheduled AS start,
           l.ended - l.running AS work
    FROM lives l LEFT JOIN lives b ON b.place = l.n - $1
)
SELECT extract(epoch FROM max(ended) - min(running))::float8 AS seconds,
       extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY release))::float8 * 1000 AS release_ms,
       extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY start))::float8 * 1000 AS start_ms,
       extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY work))::float8 * 1000 AS work_ms
FROM gaps
"""


async def hand_off(stage: Stage, limit: int, seconds: float) -> Reading:
    """Run as many as the limit allows in so many seconds; returns the share of the ideal and where the time goes.

    Medians in milliseconds, by the beginnings of the transactions. `release_ms`: from an end to the next admission,
    `start_ms`: from there to the claim, `work_ms`: from there to the end.
    """
    count = _count(limit, seconds)

    async def work(endpoints: Endpoints, connection: asyncpg.Connection) -> Reading:
        await publish(endpoints.client, requests(f"bench.pause{limit}", count))
        looks = await until_finished(connection, count)
        row = await connection.fetchrow(_GAPS, limit)
        if row is None:
            raise RuntimeError("an aggregate returned no row")
        found = {name: value or 0.0 for name, value in row.items()}
        return {"share": _share(limit, count, found.pop("seconds")), "looks": looks + 1, **found}

    return await stage.measured(f"p4.limit{limit}", count, work, Cast(executors=2))


async def floors(stage: Stage, limit: int, seconds: float) -> Reading:
    """The same work without Interlock, as shares of the ideal."""
    count = _count(limit, seconds)
    reading = {"semaphore": _share(limit, count, await _under_a_semaphore(count, limit))}
    async with stage.database(empty=True) as endpoints:
        reading["prefetch"] = _share(
            limit, count, await hops.prefetched(endpoints, limit=limit, count=count, work=pause)
        )
        for kind in hops.KINDS:
            elapsed = await hops.relay_race(endpoints, kind, limit=limit, count=count, work=pause)
            reading[f"bare_{kind}"] = _share(limit, count, elapsed)
    return named(f"p4.limit{limit}", reading)


async def single_hops(stage: Stage, count: int) -> Reading:
    """One hop through each kind of queue."""
    reading: Reading = {}
    for kind in hops.KINDS:
        reading |= named(f"hop.{kind}", await hops.hop(stage.endpoints, kind, count))
    return reading


def _count(limit: int, seconds: float) -> int:
    return max(2 * limit, round(limit * seconds / WORK_SECONDS))


def _share(limit: int, count: int, seconds: float) -> float:
    return count / seconds / (limit / WORK_SECONDS)


async def _under_a_semaphore(count: int, limit: int) -> float:
    """Return the seconds that `count` executions take under a semaphore."""
    room = asyncio.Semaphore(limit)

    async def one() -> None:
        async with room:
            await pause()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return time.perf_counter() - started
