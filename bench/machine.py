"""What a run was measured on: processors, memory, kernel, versions and settings of the servers. No names, no paths."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aio_pika
import asyncpg

import interlock

if TYPE_CHECKING:
    from interlock.local.stack import Endpoints

SHOWN: Final = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_compression")


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
