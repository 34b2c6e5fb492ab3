"""The hand-off of a slot: how much of what a limit allows is used by work of 20 ms. Two executors, one worker.

Ideal are `limit` executions at a time without a gap. Two floors: the same work on one event loop under a semaphore, and
passed round between two bare consumers, with the messages and commits that a slot's way round cannot do without.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.actions import WORK_SECONDS, pause
from bench.floor import relay_race
from bench.throughput import environment, publish, register, requests, until_finished, wipe
from interlock.local.daemons import Daemons

if TYPE_CHECKING:
    from pathlib import Path

    from interlock.local.stack import Endpoints

LIMITS: Final = (1, 10)
IDEAL_SECONDS: Final = 8
"""How long one round of one limit takes at best."""
_GAPS: Final = """
WITH moves AS (
    SELECT execution_id, target, at,
           row_number() OVER (PARTITION BY target ORDER BY position) AS n
    FROM execution_transition WHERE target IN ('scheduled', 'running', 'completed')
), lives AS (
    SELECT s.n, s.at AS scheduled, r.at AS running, e.at AS ended, e.n AS place
    FROM moves s JOIN moves r USING (execution_id) JOIN moves e USING (execution_id)
    WHERE s.target = 'scheduled' AND r.target = 'running' AND e.target = 'completed'
)
SELECT extract(epoch FROM max(l.ended) - min(l.running)) AS seconds,
       1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY l.scheduled - b.ended)) AS release_ms,
       1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY l.running - l.scheduled)) AS start_ms,
       1000 * extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY l.ended - l.running)) AS work_ms
FROM lives l LEFT JOIN lives b ON b.place = l.n - $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """One round at one limit: the shares of the ideal, and where the time of one execution goes, as medians in ms.

    `release_ms`: from an end to the next admission, `start_ms`: from there to the claim, `work_ms`: from there to the
    end. All by the beginnings of the transactions.
    """

    share: float
    floor_share: float
    bare_share: float
    release_ms: float
    start_ms: float
    work_ms: float


async def hand_off(endpoints: Endpoints, logs: Path, limit: int) -> HandOff:
    """Run as many as the limit allows in IDEAL_SECONDS, first without Interlock, then with it."""
    count = round(limit * IDEAL_SECONDS / WORK_SECONDS)
    ideal = limit / WORK_SECONDS
    floor = count / await _floor(count, limit)
    bare = count / await relay_race(endpoints.database_url, endpoints.amqp_url, limit=limit, count=count, work=pause)
    connection = await asyncpg.connect(endpoints.database_url)
    name = f"bench.pause{limit}"
    try:
        await register(connection, {"action": name, "function": "bench.actions:pause", "limit": limit})
        await connection.execute(
            "SELECT set_queue('leaf', 'action:' || $1, jsonb_build_object('lim', $2::int))", name, limit
        )
        async with Daemons(endpoints, logs=logs, executors=2, env=environment()):
            await publish(endpoints.client, requests(name, count))
            await until_finished(connection, count)
        row = await connection.fetchrow(_GAPS, limit)
        if row is None:
            raise RuntimeError("an aggregate returned no row")
        return HandOff(
            share=count / float(row["seconds"]) / ideal,
            floor_share=floor / ideal,
            bare_share=bare / ideal,
            release_ms=float(row["release_ms"]),
            start_ms=float(row["start_ms"]),
            work_ms=float(row["work_ms"]),
        )
    finally:
        await wipe(connection)
        await connection.close()


async def _floor(count: int, limit: int) -> float:
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
