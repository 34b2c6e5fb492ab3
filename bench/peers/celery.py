"""Celery over RabbitMQ with results in PostgreSQL: no-ops sent, then worked off. Imports nothing of Interlock.

Settings: its own worker with the prefork pool, PROCESSES processes, a prefetch of MULTIPLIER for each as its guide to
optimizing says for short tasks, no gossip, mingle or heartbeats, no rate limits, acknowledged early (its default), a
durable classic queue and persistent messages (its defaults), pooled connections to the database that are not asked
before each use whether they live. One JSON line on the last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version

import psycopg2
from celery import Celery
from kombu import Queue

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))
MULTIPLIER = int(os.environ.get("BENCH_MULTIPLIER", "128"))
LOOK = 0.05
URL = os.environ["BENCH_DATABASE_URL"]
COUNT = int(os.environ["BENCH_COUNT"])

# SQLAlchemy takes psycopg 3 for an address that names no driver.
BACKEND = "db+" + URL.replace("postgresql://", "postgresql+psycopg2://", 1)

app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"], backend=BACKEND)
app.conf.update(
    task_queues=[Queue("bench.celery")],
    task_default_queue="bench.celery",
    worker_prefetch_multiplier=MULTIPLIER,
    worker_disable_rate_limits=True,
    worker_enable_remote_control=False,
    database_engine_options={"pool_pre_ping": False},
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""


def enqueue() -> float:
    """Send all tasks over one connection; return how many per second."""
    started = time.perf_counter()
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(COUNT):
            noop.apply_async(producer=producer)
    return COUNT / (time.perf_counter() - started)


def drained() -> float:
    """Return the results per second from the first one seen to the last."""
    connection = psycopg2.connect(URL)
    connection.autocommit = True
    first, since = 0, 0.0
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT to_regclass('celery_taskmeta') IS NOT NULL")
            there = cursor.fetchone()[0]
            cursor.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'" if there else "SELECT 0")
            done, now = cursor.fetchone()[0], time.perf_counter()
            if done and not first:
                first, since = done, now
            if done >= COUNT:
                break
            time.sleep(LOOK)
    connection.close()
    return (COUNT - first) / (now - since)


def main() -> None:
    """Measure, or be the worker."""
    if sys.argv[1:] == ["work"]:
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
        app.worker_main(["worker", "--pool=prefork", f"--concurrency={PROCESSES}", *quiet])
        return
    enqueued = enqueue()
    worker = subprocess.Popen([sys.executable, "-I", __file__, "work"], stdout=sys.stderr)
    per_second = drained()
    worker.terminate()
    worker.wait()
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete("bench.celery")
    print(  # noqa: T201
        json.dumps(
            {
                "per_second": per_second,
                "enqueue_per_second": enqueued,
                "versions": {name: version(name) for name in ("celery", "kombu", "SQLAlchemy", "psycopg2-binary")},
                "settings": f"worker processes: {PROCESSES} (prefork), prefetch {MULTIPLIER} each, acknowledged early",
            }
        )
    )


main()
