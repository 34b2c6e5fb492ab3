"""What a run was measured on: processors, memory, kernel, versions and settings of the servers. No names, no paths."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aio_pika
import asyncpg

import interlock
from bench import processes
from bench.meter import servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.local.stack import Endpoints

ADDITIONS: Final = 10_000_000
SHOWN: Final = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_compression")


class Others:
    """How much of the processors everybody else takes: what runs beside a benchmark spoils it, and is to be told."""

    def __init__(self, ours: Sequence[int]) -> None:
        self._ours = ours
        self._since, self._busy, self._own = time.perf_counter(), processes.busy_seconds(), self._seconds()

    def share(self) -> float:
        """Return the share of all processors, since this was made."""
        elsewhere = (processes.busy_seconds() - self._busy) - (self._seconds() - self._own)
        return max(0.0, elsewhere) / (time.perf_counter() - self._since) / (os.cpu_count() or 1)

    def _seconds(self) -> float:
        return processes.seconds(processes.processes(), self._ours)


def loop_seconds() -> float:
    """Return how long ten million additions in Python take: what absolute numbers of two reports are compared by."""
    since, total = time.perf_counter(), 0
    while total < ADDITIONS:
        total += 1
    return time.perf_counter() - since


async def ours(endpoints: Endpoints) -> list[int]:
    """Return this process and both servers, as far as they run here; daemons and peers are below this process."""
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        found = await servers(connection, endpoints)
    finally:
        await connection.close()
    return [os.getpid(), *(pid for pids in found.values() for pid in pids)]


async def facts(endpoints: Endpoints) -> dict[str, str]:
    """Ask the kernel and both servers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "Interlock": interlock.__version__,
        "Processors": f"{os.cpu_count()} x {_processor()}",
        "Memory": f"{memory:.0f} GB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **await _database(endpoints),
        **await _broker(endpoints),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


async def _database(endpoints: Endpoints) -> dict[str, str]:
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        version = await connection.fetchval("SHOW server_version")
        settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in SHOWN]
    finally:
        await connection.close()
    return {"PostgreSQL": f"{version}: {', '.join(settings)}"}


async def _broker(endpoints: Endpoints) -> dict[str, str]:
    connection = await aio_pika.connect(endpoints.amqp_url)
    async with connection:
        told = connection.transport.connection if connection.transport else None
        properties = getattr(told, "server_properties", {})
    return {"RabbitMQ": f"{_text(properties.get('version'))}, {_text(properties.get('platform'))}, one node"}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
