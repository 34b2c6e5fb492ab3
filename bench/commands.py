"""P6: `/bin/true` as a `command` action, beside a bare loop that starts it and waits for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from bench.stage import TRUE, Cast
from bench.throughput import throughput

if TYPE_CHECKING:
    from bench.readings import Reading
    from bench.stage import Stage

CONCURRENCY: Final = 32
"""The default of a worker. More at a time start no faster on two cores."""
BARE_AT_ONCE: Final = 4


async def commands(stage: Stage, count: int) -> Reading:
    """Run `count` of them through one executor and one worker."""
    return await throughput(stage, "p6", TRUE, count, Cast(concurrency=CONCURRENCY))


async def floor(count: int) -> Reading:
    """Start `count` of them, a few at a time, on asyncio's own event loop: uvloop starts a program far more slowly."""
    return {"p6.bare.per_second": count / await asyncio.to_thread(asyncio.run, _bare(count))}


async def _bare(count: int) -> float:
    left = count

    async def run() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            process = await asyncio.create_subprocess_exec("/bin/true")
            await process.wait()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(BARE_AT_ONCE):
            group.create_task(run())
    return time.perf_counter() - started
