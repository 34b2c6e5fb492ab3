"""Totals of a shop's orders, one for each user and day: a partition of the batch in `batches/bi-date-update.yaml`.

The worker that runs it needs BI_DATABASE_URL in its environment, the address of the database with the tables of
`sql/bi_tables.sql`. It is `async`, so it runs on the worker's own loop, and all partitions there share one pool.
"""

from __future__ import annotations

import asyncio
import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from interlock.results import Skip, skip

if TYPE_CHECKING:
    from interlock.results import Context

ADDRESS: Final = "BI_DATABASE_URL"
TOTAL: Final = (Path(__file__).parent / "sql" / "bi_total.sql").read_text(encoding="utf-8")
CONNECTIONS: Final = 8
_pools: list[asyncpg.Pool[Any]] = []
_opening: Final = asyncio.Lock()


class Superseded(Exception):
    """A later attempt has kept its total already: what this one returns is of no interest to anybody."""


async def user_day(user: str, day: str, context: Context) -> dict[str, int] | Skip:
    """Keep the total of one user's orders of one day, and return it; a day without orders is skipped.

    Doing it again, at any time, changes nothing. Raises KeyError where BI_DATABASE_URL is not set, and what the
    database raises: both become the error of the partition.
    """
    pool = await _pool()
    row = await pool.fetchrow(TOTAL, user, date.fromisoformat(day), context.execution_id, context.attempt)
    assert row is not None  # noqa: S101 - an aggregate returns exactly one row
    if not row["orders"]:
        return skip("no orders")
    if not row["kept"]:
        raise Superseded(f"a later attempt than {context.attempt} has kept its total")
    return {"orders": row["orders"], "cents": row["cents"]}


async def _pool() -> asyncpg.Pool[Any]:
    async with _opening:
        if not _pools:
            _pools.append(await asyncpg.create_pool(os.environ[ADDRESS], min_size=0, max_size=CONNECTIONS))
    return _pools[0]
