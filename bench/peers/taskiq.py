"""taskiq over RabbitMQ with results in PostgreSQL: no-ops kicked, then worked off. Imports nothing of Interlock.

Settings: its own worker command with PROCESSES processes (its default is 2) and 500 tasks at a time in all, prefetch as
large, uvloop, orjson, parameters not validated, acknowledged when the result is saved (its default), a durable queue.
One JSON line on the last line.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version

import asyncpg
import uvloop
from taskiq.cli.common_args import LogLevel
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import run_worker
from taskiq.serializers import ORJSONSerializer
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_pg.asyncpg import AsyncpgResultBackend

CONCURRENCY = 500
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "10"))
KIND = QueueType(os.environ.get("BENCH_QUEUE", "classic"))
AT_ONCE = 500
LOOK = 0.05
URL = os.environ["BENCH_DATABASE_URL"]
COUNT = int(os.environ["BENCH_COUNT"])

results = AsyncpgResultBackend(
    dsn=URL, field_for_task_id="Uuid", serializer=ORJSONSerializer(), min_size=CONNECTIONS, max_size=CONNECTIONS
)
broker = (
    AioPikaBroker(
        os.environ["BENCH_AMQP_URL"],
        qos=CONCURRENCY // PROCESSES,
        exchange=Exchange(name="bench.taskiq"),
        dead_letter_queue=Queue(name="bench.taskiq.dead", type=KIND),
    )
    .with_queue(Queue(name="bench.taskiq", type=KIND))
    .with_result_backend(results)
    .with_serializer(ORJSONSerializer())
)


@broker.task(task_name="noop")
async def noop() -> None:
    """Do nothing."""


async def enqueue() -> float:
    """Kick all tasks, many at a time; return how many per second."""
    started = time.perf_counter()
    for start in range(0, COUNT, AT_ONCE):
        await asyncio.gather(*(noop.kiq() for _ in range(min(AT_ONCE, COUNT - start))))
    return COUNT / (time.perf_counter() - started)


async def drained() -> float:
    """Return the results per second from the first one seen to the last."""
    connection = await asyncpg.connect(URL)
    first, since = 0, 0.0
    while True:
        done, now = await connection.fetchval("SELECT count(*) FROM taskiq_results"), time.perf_counter()
        if done and not first:
            first, since = done, now
        if done >= COUNT:
            break
        await asyncio.sleep(LOOK)
    await connection.close()
    return (COUNT - first) / (now - since)


async def measure() -> tuple[float, float]:
    """Enqueue, start the workers, wait, and remove the queues."""
    await broker.startup()
    enqueued = await enqueue()
    workers = subprocess.Popen([sys.executable, "-I", __file__, "work"], stdout=sys.stderr)  # noqa: ASYNC220
    per_second = await drained()
    workers.terminate()
    await asyncio.to_thread(workers.wait)
    for queue in ("bench.taskiq", "bench.taskiq.dead"):
        await broker.write_channel.queue_delete(queue)
    await broker.write_channel.exchange_delete("bench.taskiq")
    await broker.shutdown()
    return enqueued, per_second


def main() -> None:
    """Measure, or be the worker command."""
    if sys.argv[1:] == ["work"]:
        run_worker(
            WorkerArgs(
                broker="__main__:broker",
                modules=[],
                workers=PROCESSES,
                max_async_tasks=CONCURRENCY // PROCESSES,
                max_prefetch=CONCURRENCY // PROCESSES,
                no_parse=True,
                log_level=LogLevel.WARNING,
            )
        )
        return
    enqueued, per_second = uvloop.run(measure())
    print(  # noqa: T201
        json.dumps(
            {
                "per_second": per_second,
                "enqueue_per_second": enqueued,
                "versions": {
                    name: version(name)
                    for name in ("taskiq", "taskiq-aio-pika", "taskiq-postgres", "aio-pika", "asyncpg", "uvloop")
                },
                "settings": f"{KIND.value} queue, worker processes: {PROCESSES}, {CONCURRENCY} tasks at a time in all, "
                "uvloop, orjson, acknowledged when saved",
            }
        )
    )


if __name__ == "__main__":
    main()
