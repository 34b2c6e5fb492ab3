"""procrastinate: no-ops deferred in lists, worked off by asynchronous workers. Imports nothing of Interlock.

Settings: PROCESSES worker processes with CONCURRENCY jobs at a time in all, no LISTEN (the backlog is there), finished
jobs are kept (its default), psycopg's binary implementation. One JSON line on the last line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from importlib.metadata import version

import procrastinate
import psycopg

CONCURRENCY = 500
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "10"))
LIST = 1000
LOOK = 0.05
URL = os.environ["BENCH_DATABASE_URL"]
COUNT = int(os.environ["BENCH_COUNT"])
_DONE = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=4, max_size=CONNECTIONS))


@app.task(name="noop", queue="bench")
async def noop() -> None:
    """Do nothing."""


async def work() -> None:
    """Work until no job is left."""
    async with app.open_async():
        await app.run_worker_async(
            queues=["bench"], concurrency=CONCURRENCY // PROCESSES, wait=False, listen_notify=False
        )


async def enqueue() -> float:
    """Make the tables and defer all jobs; return how many per second."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        started = time.perf_counter()
        for start in range(0, COUNT, LIST):
            await noop.batch_defer_async(*[{}] * min(LIST, COUNT - start))
        return COUNT / (time.perf_counter() - started)


async def drained() -> float:
    """Start the workers; return the jobs per second from the first one seen done to the last."""
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, "-I", __file__, "work", stdout=sys.stderr)
        for _ in range(PROCESSES)
    ]
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        first, since = 0, 0.0
        while True:
            row = await (await connection.execute(_DONE)).fetchone()
            done, now = row[0] if row else 0, time.perf_counter()
            if done and not first:
                first, since = done, now
            if done >= COUNT:
                break
            await asyncio.sleep(LOOK)
    for worker in workers:
        await worker.wait()
    return (COUNT - first) / (now - since)


def main() -> None:
    """Enqueue and drain, or be one of the workers."""
    logging.disable(logging.INFO)
    if sys.argv[1:] == ["work"]:
        asyncio.run(work())
        return
    enqueued = asyncio.run(enqueue())
    print(  # noqa: T201
        json.dumps(
            {
                "per_second": asyncio.run(drained()),
                "enqueue_per_second": enqueued,
                "versions": {name: version(name) for name in ("procrastinate", "psycopg")},
                "settings": f"worker processes: {PROCESSES}, {CONCURRENCY} jobs at a time in all, finished ones kept",
            }
        )
    )


main()
