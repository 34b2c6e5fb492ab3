"""P10, the long run: whether the memory of an executor and a worker is flat under a steady load. Takes an hour."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Final

import asyncpg

from bench import processes
from bench.stage import NOOP, Cast, publish, requests, until_finished

if TYPE_CHECKING:
    from bench.readings import Reading
    from bench.stage import Stage
    from interlock.local.daemons import Daemons

LOOK_SECONDS: Final = 2.0
WARMUP: Final = 0.1
"""The share of the run that is not judged: caches fill, and the allocator keeps what it once had."""


async def hour(stage: Stage, minutes: float, rate: int) -> Reading:
    """Ask for `rate` no-ops each second for so long; returns the memory of the first and the last third."""
    seen: dict[str, list[float]] = {"executor": [], "worker": []}
    async with stage.database() as endpoints:
        connection = await asyncpg.connect(endpoints.database_url)
        async with stage.daemons(endpoints, Cast()) as daemons:
            started = time.perf_counter()
            sent = 0
            while (passed := time.perf_counter() - started) < minutes * 60:
                wanted = round(rate * passed) - sent
                if wanted:
                    await publish(endpoints.client, requests(NOOP, wanted))
                    sent += wanted
                for role, size in _sizes(daemons).items():
                    seen[role].append(size)
                await asyncio.sleep(LOOK_SECONDS)
            await until_finished(connection, sent)
        await connection.close()
    reading: Reading = {"p10-hour.minutes": minutes, "p10-hour.rate": float(rate)}
    for role, sizes in seen.items():
        judged = sizes[int(len(sizes) * WARMUP) :]
        third = max(1, len(judged) // 3)
        reading[f"p10-hour.first_mb.{role}"] = statistics.median(judged[:third])
        reading[f"p10-hour.last_mb.{role}"] = statistics.median(judged[-third:])
        reading[f"p10-hour.peak_mb.{role}"] = max(judged)
    return reading


def _sizes(daemons: Daemons) -> dict[str, float]:
    found = processes.processes()
    roots = {"executor": daemons.executors[0].pid, "worker": daemons.workers[0].pid}
    return {
        role: max(processes.resident_mb(pid) for pid in processes.tree(found, [root])) for role, root in roots.items()
    }
