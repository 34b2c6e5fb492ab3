"""P6: `/bin/true` as a `command` action, beside bare loops that start it and wait for it: alone, and contained."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, Final

from bench.stage import TRUE, Cast
from bench.throughput import throughput
from worker.runners.launcher import launcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.readings import Reading
    from bench.stage import Stage

CONCURRENCY: Final = 32
"""The default of a worker. More at a time start no faster on two cores."""
BARE_AT_ONCE: Final = 4


async def commands(stage: Stage, count: int) -> Reading:
    """Run `count` of them through one executor and one worker."""
    return await throughput(stage, "p6", TRUE, count, Cast(concurrency=CONCURRENCY))


async def floor(count: int) -> Reading:
    """Start `count` of them, a few at a time, on asyncio's own event loop: uvloop starts a program far more slowly.

    Contained means what an action's command is: in a session of its own, without new rights, dead with its parent, its
    output read. That is one program more to start for each.
    """
    contained = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "start_new_session": True}
    return {
        "p6.bare.per_second": count / await asyncio.to_thread(asyncio.run, _bare(count, (), {})),
        "p6.contained.per_second": count / await asyncio.to_thread(asyncio.run, _bare(count, launcher(), contained)),
    }


async def _bare(count: int, launch: Sequence[str], options: Mapping[str, Any]) -> float:
    left = count

    async def run() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            process = await asyncio.create_subprocess_exec(*launch, "/bin/true", **options)
            await process.communicate()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(BARE_AT_ONCE):
            group.create_task(run())
    return time.perf_counter() - started
