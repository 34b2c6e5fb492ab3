"""pgqueuer: no-ops enqueued in lists, drained by its own drain mode. Imports nothing of Interlock.

Settings: PROCESSES processes, durable tables (its default), an asyncpg pool for each, uvloop, batches of BATCH jobs, no
limit of concurrent tasks (a limit adds work to its dequeue statement). One JSON line on the last line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib.metadata import version

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job  # noqa: TC002 - pgqueuer reads the annotations of an entrypoint
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

BATCH = int(os.environ.get("BENCH_BATCH", "1000"))
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "1"))
MANAGERS = int(os.environ.get("BENCH_MANAGERS", "1"))
LIST = 1000
CONNECTIONS = 4
URL = os.environ["BENCH_DATABASE_URL"]
COUNT = int(os.environ["BENCH_COUNT"])


async def manage() -> None:
    """Work until the queue is empty."""
    async with asyncpg.create_pool(URL, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        app = PgQueuer.from_asyncpg_pool(pool)

        @app.entrypoint("noop")
        async def noop(job: Job) -> None:
            pass

        await app.qm.run(batch_size=BATCH, mode=QueueExecutionMode.drain)


async def work() -> None:
    """Be one worker process; tell when it began and ended, by the clock that all processes share."""
    began = time.monotonic()
    await asyncio.gather(*(manage() for _ in range(MANAGERS)))
    print(json.dumps([began, time.monotonic()]))  # noqa: T201


async def enqueue(pool: asyncpg.Pool) -> float:
    """Make the tables and enqueue all jobs; return how many per second."""
    queries = Queries.from_asyncpg_pool(pool)
    await queries.install()
    started = time.perf_counter()
    for start in range(0, COUNT, LIST):
        size = min(LIST, COUNT - start)
        await queries.enqueue(["noop"] * size, [None] * size, [0] * size)
    return COUNT / (time.perf_counter() - started)


async def drained() -> float:
    """Let all workers drain; return the jobs per second from the first one's beginning to the last one's end.

    Nobody looks how far they are meanwhile: counting a log this long would slow them.
    """
    command = (sys.executable, "-I", __file__, "work")
    workers = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(PROCESSES)]
    told = [json.loads((await worker.communicate())[0].splitlines()[-1]) for worker in workers]
    return COUNT / (max(end for _, end in told) - min(began for began, _ in told))


async def measure() -> None:
    """Enqueue, drain, and look that every job was logged as successful."""
    async with asyncpg.create_pool(URL, min_size=2, max_size=2) as pool:
        enqueued = await enqueue(pool)
        per_second = await drained()
        done = await pool.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")
    if done != COUNT:
        raise SystemExit(f"{done} of {COUNT} jobs are logged as successful")
    print(  # noqa: T201
        json.dumps(
            {
                "per_second": per_second,
                "enqueue_per_second": enqueued,
                "versions": {name: version(name) for name in ("pgqueuer", "asyncpg", "uvloop")},
                "settings": f"worker processes: {PROCESSES}, queue managers in each: {MANAGERS}, durable tables, "
                f"drain mode, batches of {BATCH}, no limit of tasks, uvloop",
            }
        )
    )


uvloop.run(work() if sys.argv[1:] == ["work"] else measure())
