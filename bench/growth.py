"""P9: whether what is finished, or what waits, slows what runs. Takes long; not in the default set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.copies import copy_finished, copy_waiting
from bench.readings import Readings
from bench.stage import LIMITED, NOOP, Cast, publish, requests, until, until_finished
from interlock.client import Client
from interlock.contract.errors import InterlockError

if TYPE_CHECKING:
    from bench.readings import Reading
    from bench.stage import Stage
    from interlock.local.stack import Endpoints

FEW_FINISHED: Final = 10_000
REPEATS: Final = 3
_ADMITTED: Final = """
SELECT $1::int8 / extract(epoch FROM (
    SELECT max(at) FROM (SELECT at FROM execution_transition WHERE target = 'completed' ORDER BY position LIMIT $1) e
) - (SELECT min(at) FROM execution_transition WHERE target = 'scheduled'))::float8
"""


class Unsound(InterlockError):
    """What was generated breaks an invariant: a figure that is measured on it would mean nothing."""


async def finished(stage: Stage, rows: int, count: int) -> Reading:
    """Return the throughput of `count` no-ops on a history of ten thousand executions, and on one of `rows`."""
    readings = Readings()
    async with stage.database() as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        async with stage.daemons(endpoints, Cast()):
            await publish(endpoints.client, requests(NOOP, 1))
            await until_finished(connection, 1)
            template = await connection.fetchval("SELECT id FROM execution")
            await copy_finished(connection, template, FEW_FINISHED)
            await _examined(endpoints)
            for size in ("small", "large"):
                if size == "large":
                    await copy_finished(connection, template, rows - FEW_FINISHED)
                for _ in range(REPEATS):
                    readings.add({size: await _rate(endpoints, connection, count)})
        await connection.close()
    return {
        "p9.finished.small": readings["small"],
        "p9.finished.large": readings["large"],
        "p9.finished.small_rows": FEW_FINISHED,
        "p9.finished.large_rows": rows,
    }


async def waiting(stage: Stage, rows: int, count: int) -> Reading:
    """Return how many per second end of the first `count` that wait on a key when no more wait, and when `rows` do."""
    reading: Reading = {"p9.waiting.small_rows": count, "p9.waiting.large_rows": rows}
    for size, waiters in (("small", count), ("large", rows)):
        readings = Readings()
        for _ in range(REPEATS):
            readings.add({"rate": await _admitted(stage, waiters, count, examine=size == "small")})
        reading[f"p9.waiting.{size}"] = readings["rate"]
    return reading


async def _rate(endpoints: Endpoints, connection: asyncpg.Connection, count: int) -> float:
    before = await connection.fetchval("SELECT last_value FROM transition_position")
    bodies = requests(NOOP, count)
    started = time.perf_counter()
    await publish(endpoints.client, bodies)
    # Counting all of a long history would be the slowest part: the new moves are the last partition's end.
    await until(
        connection,
        """SELECT (SELECT last_value FROM transition_position) >= $1 + 3 * $2::bigint
              AND NOT EXISTS (SELECT 1 FROM in_flight) AND NOT EXISTS (SELECT 1 FROM waiting)""",
        before,
        count,
    )
    return count / (time.perf_counter() - started)


async def _admitted(stage: Stage, waiters: int, count: int, *, examine: bool) -> float:
    async with stage.database() as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        async with stage.daemons(endpoints, Cast(workers=0)) as daemons:
            await publish(endpoints.client, requests(LIMITED, 1))
            await until(connection, "SELECT count(*) = 1 FROM waiting")
            template = await connection.fetchval("SELECT execution_id FROM waiting")
            await copy_waiting(connection, template, waiters - 1)
            if examine:
                await _examined(endpoints)
            await daemons.add_worker()
            await until(
                connection,
                "SELECT count(*) >= $1 FROM execution_transition WHERE target = 'completed'",
                count,
                every=0.2,
            )
            rate = await connection.fetchval(_ADMITTED, count)
            daemons.kill()
        await connection.close()
    return float(rate)


async def _examined(endpoints: Endpoints) -> None:
    async with Client.connect(endpoints.database_url, statement_seconds=600) as client:
        found = await client.examine()
    if found.violations:
        told = "; ".join(f"{verdict.sentence}: {verdict.count}" for verdict in found.invariants if verdict.count)
        raise Unsound(f"the generated executions break {found.violations} times what doctor looks for: {told}")
